//! Files that mean harm, or were never configurations: each ends in an error with a place, on a small stack.
//! Promises nothing about time: `tests/it/cli.rs` measures it with the real binary.

use super::*;

/// Reads on a thread with a stack far smaller than any platform's: recursion over the input would overflow it.
fn first_complaint(bytes: &[u8]) -> String {
    let folder = Folder::new(&format!("hostile-{:?}", std::thread::current().id()).replace(['(', ')'], ""));
    let path = folder.path("portway.yaml");
    std::fs::write(&path, bytes).expect("the file can be written");
    let read = move || match load::read(&path, &environment()) {
        Ok(_) => "ok".to_owned(),
        Err(diagnostics) => {
            let rendered = render::render(&diagnostics, Color::Never);
            assert!(rendered.len() < 200_000, "{} bytes of messages", rendered.len());
            let first = &diagnostics.list[0];
            assert!(first.place.line > 0 && first.place.column > 0);
            format!("{}:{} {}", first.place.line, first.place.column, first.message)
        }
    };
    let thread = std::thread::Builder::new().stack_size(512 * 1024).spawn(read).expect("a thread can be started");
    thread.join().expect("no input makes reading panic")
}

#[test]
fn each_hostile_file_ends_in_an_error_with_a_place() {
    let bomb = ["b", "c", "d", "e", "f", "g", "h", "i"].iter().fold(
        ("a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned(), "a"),
        |(text, last), name| {
            let nine = vec![format!("*{last}"); 9].join(",");
            (format!("{text}{name}: &{name} [{nine}]\n"), *name)
        },
    );
    let cases: [(&str, Vec<u8>, &str); 25] = [
        ("tab", b"services:\n\tshop: {}\n".to_vec(), "2:1 a tab in the indentation"),
        ("tab after spaces", b"services:\n  shop:\n  \ttimeout: 1s\n".to_vec(), "3:3 a tab in the indentation"),
        ("BOM", b"\xef\xbb\xbfservices: {}\n".to_vec(), "1:1 the file begins with a byte order mark"),
        ("UTF-16", b"\xff\xfes\0e\0".to_vec(), "1:1 the file is UTF-16, not UTF-8"),
        ("Latin-1", b"services:\n  caf\xe9: {}\n".to_vec(), "2:6 the file is not UTF-8 from here on"),
        ("NUL", b"services:\n  a: \0\n".to_vec(), "2:6 the file holds a NUL byte"),
        ("escape", b"a: \x1b[31m\n".to_vec(), "1:4 the file holds the control character U+001B"),
        ("deep flow", "[".repeat(10_000).into_bytes(), "nest"),
        ("deep mapping", "{a: ".repeat(10_000).into_bytes(), "nest"),
        ("deep list", "- ".repeat(10_000).into_bytes(), "nesting deeper than 64 levels"),
        (
            "deep block",
            (0..1_000).map(|n| " ".repeat(n) + "a:\n").collect::<String>().into_bytes(),
            "65:65 nesting deeper than 64 levels",
        ),
        ("large", vec![b'#'; 50 << 20], "is larger than 1024 KiB"),
        ("alias bomb", bomb.0.into_bytes(), "6:8 aliases add more than 100000 values"),
        ("alias of itself", b"services: &a\n  x: *a\n".to_vec(), "2:6 this alias stands inside its own anchor"),
        ("alias of nothing", b"services: *a\n".to_vec(), "1:11 no anchor of this name"),
        ("two documents", b"services: {}\n---\na: 1\n".to_vec(), "2:1 a second YAML document begins here"),
        ("tag", b"services: !!python/object {}\n".to_vec(), "services"),
        ("own tag", b"services: !run {}\n".to_vec(), "1:11 the tag `!run` means nothing here"),
        ("mapping as key", b"{ {a: b}: c }\n".to_vec(), "1:3 a key must be plain text"),
        ("two merges", b"x-a: &a { b: 1 }\nx-c:\n  <<: *a\n  <<: *a\n".to_vec(), "4:3 `<<` is here twice"),
        (
            "variable in braces",
            b"services: { a: { timeout: ${T:-3s} } }\n".to_vec(),
            "1:27 a variable without quotes inside of `{ }` or `[ ]`",
        ),
        ("brace after a dollar sign", b"services: { a: ${ b\n".to_vec(), "1:17 not valid YAML"),
        ("open quote", b"a: \"b\n".to_vec(), "1:4 not valid YAML"),
        (
            "one long line",
            format!("services: {{ a: {{ backends: [{}] }} }}", "h,".repeat(90_000)).into_bytes(),
            "\"h\" has no port",
        ),
        ("many duplicates", "a: 1\n".repeat(100_000).into_bytes(), "2:1 `a` is here twice"),
    ];
    for (name, bytes, want) in cases {
        let said = first_complaint(&bytes);
        assert!(said.contains(want), "{name}: {said}");
    }
}

#[test]
fn a_hundred_thousand_mistakes_are_counted_but_not_drawn() {
    let text: String = (0..50_000).map(|n| format!("k{n}: 1\n")).collect();
    let diagnostics = load::parse(&text, "a", &environment()).expect_err("unknown keys");
    let rendered = render::render(&diagnostics, Color::Never);
    assert!(
        rendered.ends_with("a: 1000 errors, 0 warnings; 900 more are not shown"),
        "{}",
        &rendered[rendered.len() - 200..]
    );
}

proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in "[-a-z:{}\\[\\]&*!|>'\"#%@`,? \n\t~$0-9]{0,200}") {
        if let Err(diagnostics) = load::parse(&text, "a", &environment()) {
            prop_assert!(!diagnostics.is_empty());
            render::render(&diagnostics, Color::Always);
        }
    }

    #[test]
    fn no_service_makes_checking_panic(key in "[a-z_]{3,9}|route|backends|cors|headers|balance|listen", value in "[^\u{0}]{0,40}") {
        let value = serde_json::to_string(&value).unwrap_or_default();
        for text in [format!("services: {{ web: {{ {key}: {value} }} }}"), format!("{key}: {value}\nservices: {{}}")] {
            if let Err(diagnostics) = load::parse(&text, "a", &environment()) {
                render::render(&diagnostics, Color::Never);
            }
        }
    }
}
