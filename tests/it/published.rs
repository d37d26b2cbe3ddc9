//! The figures that README shows: those of the published results and no others.
//! It promises that README and `benches/results` cannot drift apart. It measures nothing and judges no figure.

use std::fs;

/// What README says as long as `benches/results/faults.md` is not there.
const NOT_YET: &str = "No complete run is published yet.\n";

/// A file of the checkout; `None` if it is not there.
fn read(path: &str) -> Option<String> {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).ok()
}

/// From the end of the comment that begins with `begin` to the one that begins with `end`.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("<!-- {begin}")).unwrap_or_else(|| panic!("no comment {begin:?}"));
    let (_, rest) = rest.split_once("-->\n").expect("a comment has an end");
    rest.split_once(&format!("<!-- {end}")).unwrap_or_else(|| panic!("no comment {end:?}")).0
}

#[test]
fn the_readme_shows_the_published_table_of_faults() {
    let readme = read("README.md").expect("README is there");
    let shown = between(&readme, "faults: begin", "faults: end");
    let Some(results) = read("benches/results/faults.md") else {
        return assert_eq!(shown, NOT_YET, "README shows what is not in benches/results");
    };
    let published = between(&results, "table: begin", "table: end");
    assert_eq!(shown, published, "README shows another table than benches/results/faults.md");
    assert!(published.lines().count() > 20, "{published}");
}

#[test]
fn the_readme_shows_the_published_figures_of_the_peers() {
    let readme = read("README.md").expect("README is there");
    let results = read("benches/results/peers.md").expect("benches/results has the figures");
    let shown = between(&readme, "figures: begin", "figures: end");
    let rows: Vec<&str> = shown.lines().filter(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 12, "{shown}");
    for row in rows {
        assert!(
            results.lines().any(|line| line == row),
            "README shows a row that benches/results/peers.md has not:\n{row}"
        );
    }
}
