//! Lines of styled text for a terminal, cut to its width.
//! Promises that without colour a line is its plain text. It writes nowhere.

use crate::config::render::Color;

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    /// Less important.
    Soft,
    Bold,
    Good,
    Warn,
    Bad,
    /// The row that the keys have chosen.
    Selected,
}

impl Style {
    /// ECMA-48, SGR.
    const fn code(self) -> &'static str {
        match self {
            Style::Plain => "0",
            Style::Soft => "2",
            Style::Bold => "1",
            Style::Good => "32",
            Style::Warn => "33",
            Style::Bad => "31",
            Style::Selected => "7",
        }
    }
}

/// One line of the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    spans: Vec<(Style, String)>,
}

impl Line {
    /// With one piece.
    pub(super) fn of(style: Style, text: impl Into<String>) -> Self {
        Self::default().with(style, text)
    }

    /// With one more piece.
    pub(super) fn with(mut self, style: Style, text: impl Into<String>) -> Self {
        self.spans.push((style, text.into()));
        self
    }

    /// All of it in one style.
    pub(super) fn entirely(self, style: Style) -> Self {
        Self::of(style, self.text())
    }

    /// Without styles.
    pub(super) fn text(&self) -> String {
        self.spans.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// Cut to `width` characters, the last of which then says that there was more.
    fn cut(&self, width: usize) -> Self {
        let n_chars: usize = self.spans.iter().map(|(_, text)| text.chars().count()).sum();
        if n_chars <= width {
            return self.clone();
        }
        let mut left = width.saturating_sub(1);
        let mut cut = Self::default();
        for (style, text) in &self.spans {
            let kept: String = text.chars().take(left).collect();
            left -= kept.chars().count();
            cut.spans.push((*style, kept));
        }
        let more = if width == 0 { "" } else { "…" };
        cut.with(Style::Soft, more)
    }

    /// For a terminal of `width` columns; nothing trailing without colour.
    pub(super) fn paint(&self, width: usize, color: Color) -> String {
        let line = self.cut(width);
        match color {
            Color::Never => line.text().trim_end().to_owned(),
            Color::Always => line.spans.iter().map(|(style, text)| painted(*style, text)).collect(),
        }
    }
}

fn painted(style: Style, text: &str) -> String {
    match style {
        Style::Plain => text.to_owned(),
        style => format!("\x1b[{}m{text}\x1b[0m", style.code()),
    }
}

/// Rows of cells as lines: columns as wide as their widest cell, two spaces apart.
pub(super) fn table(rows: &[Vec<(Style, String)>]) -> Vec<Line> {
    let plain: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|(_, text)| text.clone()).collect()).collect();
    let widths = crate::cli::status::widths(&plain);
    let line = |row: &Vec<(Style, String)>| {
        let cells = row.iter().zip(&widths).map(|((style, text), width)| (*style, format!("{text:<width$}  ")));
        Line { spans: cells.collect() }
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_to_the_width_of_the_terminal() {
        let line = Line::of(Style::Bold, "shop").with(Style::Plain, " 812 req/s  ");
        for (width, expected) in [(99, "shop 812 req/s"), (12, "shop 812 re…"), (4, "sho…"), (1, "…"), (0, "")] {
            assert_eq!(line.paint(width, Color::Never), expected);
        }
        assert_eq!(line.paint(4, Color::Always), "\x1b[1msho\x1b[0m\x1b[2m…\x1b[0m");
    }

    #[test]
    fn a_table_aligns_what_is_seen_and_not_its_styles() {
        let row = |cells: [&str; 2]| vec![(Style::Good, cells[0].to_owned()), (Style::Plain, cells[1].to_owned())];
        let lines = table(&[row(["A", "B"]), row(["long", "x"])]);
        let text: Vec<_> = lines.iter().map(|line| line.paint(80, Color::Never)).collect();
        assert_eq!(text, ["A     B", "long  x"]);
    }
}
