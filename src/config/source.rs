//! The text of every file that was read, and places in it.
//! A [`Span`] always lies on character boundaries of its file. Nothing here knows what the text means.

use std::ops::Range;

/// A piece of one file, in bytes. Small and `Copy`, so that every scalar carries its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    file: u32,
    start: u32,
    end: u32,
}

impl Span {
    /// The place of what nobody typed: a default, a value made up by a test.
    pub const NONE: Span = Span { file: u32::MAX, start: 0, end: 0 };

    /// Bytes `range` of the file that [`Sources::add`] gave this number.
    pub fn new(file: FileId, range: Range<usize>) -> Self {
        let byte = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { file: file.0, start: byte(range.start), end: byte(range.end) }
    }

    /// Whether this is a place in a file.
    pub fn is_some(self) -> bool {
        self != Span::NONE
    }

    /// The empty span where this one begins.
    pub fn at_start(self) -> Self {
        Self { end: self.start, ..self }
    }

    /// The part of this span that begins `offset` bytes in and is `length` bytes long.
    pub fn part(self, offset: usize, length: usize) -> Self {
        if !self.is_some() || offset + length > self.range().len() {
            return self;
        }
        let start = self.start + u32::try_from(offset).unwrap_or(0);
        Self { start, end: start + u32::try_from(length).unwrap_or(0), ..self }
    }

    /// Where it lies, in bytes.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Which file it lies in.
    pub fn file(self) -> FileId {
        FileId(self.file)
    }
}

/// The number of a file among [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(u32);

/// One file: its name as messages print it, and its text.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// The path as the user gave it.
    pub name: String,
    /// The whole text.
    pub text: String,
    line_starts: Vec<usize>,
}

impl SourceFile {
    fn new(name: &str, text: String) -> Self {
        let after_breaks = text.match_indices('\n').map(|(idx, _)| idx + 1);
        let line_starts = std::iter::once(0).chain(after_breaks).collect();
        Self { name: name.to_owned(), text, line_starts }
    }

    /// The line of a byte, counted from 0.
    pub fn line_idx(&self, byte: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= byte).saturating_sub(1)
    }

    /// The text of the line where a span begins.
    pub fn line_of(&self, span: Span) -> &str {
        let line_idx = self.line_idx(span.range().start);
        &self.text[self.lines(line_idx, line_idx)]
    }

    /// Where lines `from..=to` lie, without the last line break.
    pub fn lines(&self, from: usize, to: usize) -> Range<usize> {
        let start = self.line_starts.get(from).copied().unwrap_or(self.text.len());
        let end = self.line_starts.get(to + 1).map_or(self.text.len(), |next| next - 1);
        start..end.max(start)
    }
}

/// A place as people count: the first line and the first column are 1, columns are characters.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Place {
    /// The file's name as messages print it; empty if the mistake is in no file.
    pub file: String,
    /// From 1; 0 if the mistake is in no file.
    pub line: usize,
    /// From 1, in characters; 0 if the mistake is in no file.
    pub column: usize,
}

/// Every file that was read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<SourceFile>,
}

impl Sources {
    /// Keeps a file and numbers it.
    pub fn add(&mut self, name: &str, text: String) -> FileId {
        self.files.push(SourceFile::new(name, text));
        FileId(u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX))
    }

    /// The file a span lies in.
    pub fn file(&self, span: Span) -> Option<&SourceFile> {
        self.files.get(usize::try_from(span.file).ok()?)
    }

    /// Where a span begins, as people count.
    pub fn place(&self, span: Span) -> Place {
        let Some(file) = self.file(span) else { return Place::default() };
        let start = span.range().start.min(file.text.len());
        let line_idx = file.line_idx(start);
        let before = &file.text[file.lines(line_idx, line_idx).start..start];
        // A whole file may be one line, and each of a thousand mistakes asks for its column.
        let column = 1 + if before.is_ascii() { before.len() } else { before.chars().count() };
        Place { file: file.name.clone(), line: line_idx + 1, column }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let mut sources = Sources::default();
        let file = sources.add("a.yaml", "eins\nzwölf: ü\n".to_owned());
        let at = |byte| sources.place(Span::new(file, byte..byte));
        assert_eq!((at(0).line, at(0).column), (1, 1));
        assert_eq!((at(5).line, at(5).column), (2, 1));
        assert_eq!((at(13).line, at(13).column), (2, 8), "the ö before it is two bytes and one column");
        assert_eq!((at(15).line, at(15).column), (2, 9));
        assert_eq!((at(16).line, at(16).column), (3, 1));
        assert_eq!(sources.place(Span::NONE), Place::default());
    }

    #[test]
    fn a_part_never_leaves_its_span() {
        let span = Span::new(FileId(0), 10..20);
        assert_eq!(span.part(2, 3).range(), 12..15);
        assert_eq!(span.part(8, 3), span);
        assert_eq!(Span::NONE.part(0, 0), Span::NONE);
    }
}
