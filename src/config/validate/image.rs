//! The name of an image: `acme/thumbs:1.4`, `registry.example:5000/team/app@sha256:…`.
//! Promises to take what Docker takes, and to show the right spelling of what it does not. It asks no registry.

use super::check::Check;
use crate::config::raw::kind;
use crate::config::scalar::Scalar;

/// Longest tag. OCI distribution specification, "Pulling manifests".
const TAG_BYTES_MAX: usize = 128;

/// The parts of a reference, still unchecked.
struct Parts<'t> {
    domain: Option<&'t str>,
    path: &'t str,
    tag: Option<&'t str>,
    digest: Option<&'t str>,
}

/// A reference that an engine can look for.
pub(super) fn image(scalar: &Scalar<kind::Image>, check: &mut Check<'_>) -> Option<String> {
    let text = scalar.value();
    let parts = parts(text);
    let (message, help) = match &parts {
        _ if text.is_empty() => ("names no image", "write one such as acme/thumbs:1.4".to_owned()),
        _ if text.contains(char::is_whitespace) => ("has a space", "write one such as acme/thumbs:1.4".to_owned()),
        _ if text.contains("://") => {
            let bare = text.split_once("://").map_or(text, |(_, bare)| bare);
            ("has a scheme", format!("write it as {bare}"))
        }
        _ if text.starts_with(['.', '/']) => (
            "is a path",
            "Portway builds nothing: build the image with `docker build -t` and write its name".to_owned(),
        ),
        Parts { tag: Some(""), .. } | Parts { digest: Some(""), .. } => {
            ("ends in an empty tag", "write one such as acme/thumbs:1.4; is a variable empty?".to_owned())
        }
        Parts { path, .. } if path.chars().any(|c| c.is_ascii_uppercase()) => (
            "has upper case in its name",
            format!("write it as {}", text.replacen(path, &path.to_ascii_lowercase(), 1)),
        ),
        Parts { path, domain, .. } if !is_path(path) || !domain.is_none_or(is_domain) => {
            ("is not the name of an image", "write one such as acme/thumbs:1.4".to_owned())
        }
        Parts { tag: Some(tag), .. } if !is_tag(tag) => {
            ("has a tag that no image can have", "tags are letters, digits, - _ and .".to_owned())
        }
        Parts { digest: Some(digest), .. } if !is_digest(digest) => {
            ("has no proper digest", "write it as NAME@sha256: and 64 hexadecimal digits".to_owned())
        }
        _ => return Some(text.to_owned()),
    };
    let help = if scalar.has_variables() { "write one such as acme/thumbs:1.4".to_owned() } else { help };
    check.error(scalar.span(), format!("\"{}\" {message}", scalar.shown()), help);
    None
}

fn parts(text: &str) -> Parts<'_> {
    let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
    let last_slash = rest.rfind('/').map_or(0, |idx| idx + 1);
    let (name, tag) = match rest[last_slash..].find(':') {
        Some(idx) => (&rest[..last_slash + idx], Some(&rest[last_slash + idx + 1..])),
        None => (rest, None),
    };
    // As Docker tells them apart: `acme/thumbs` is on its hub, `acme.example/thumbs` is not.
    let is_domain = |first: &str| first.contains(['.', ':']) || first == "localhost";
    let (domain, path) = match name.split_once('/') {
        Some((first, path)) if is_domain(first) => (Some(first), path),
        _ => (None, name),
    };
    Parts { domain, path, tag, digest }
}

fn is_path(path: &str) -> bool {
    let is_part_char = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let is_end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    path.split('/')
        .all(|part| is_end(part.bytes().next()) && is_end(part.bytes().last()) && part.bytes().all(is_part_char))
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.starts_with('[') {
        true => domain.split_once("]:").map_or((domain, None), |(host, port)| (host, Some(port))),
        false => domain.split_once(':').map_or((domain, None), |(host, port)| (host, Some(port))),
    };
    let is_host_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':');
    !host.is_empty() && host.chars().all(is_host_char) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_tag(tag: &str) -> bool {
    let is_tag_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    tag.len() <= TAG_BYTES_MAX && !tag.starts_with(['.', '-']) && tag.chars().all(is_tag_char)
}

fn is_digest(digest: &str) -> bool {
    let (algorithm, hex) = digest.split_once(':').unwrap_or((digest, ""));
    !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic::Report;
    use crate::config::source::Sources;

    fn read(text: &str) -> Result<String, String> {
        let mut report = Report::default();
        let read = image(&Scalar::made(text), &mut Check { report: &mut report });
        read.ok_or_else(|| {
            let first = report.finish(Sources::default(), &[], "").list.remove(0);
            format!("{} ({})", first.message, first.help)
        })
    }

    #[test]
    fn what_docker_takes_is_taken() {
        let digest = format!("acme/thumbs@sha256:{}", "0a".repeat(32));
        let id = format!("sha256:{}", "0a".repeat(32));
        let both = format!("acme/thumbs:1.4@sha256:{}", "0a".repeat(32));
        for text in [
            "my-app",
            "acme/thumbs",
            "acme/thumbs:1.4",
            "registry.example/a/b/c:v1_2-x",
            "registry.example:5000/app",
            "localhost/app:latest",
            "Registry.Example/app",
            "[::1]:5000/app",
            "a__b/c--d",
            &digest,
            &id,
            &both,
        ] {
            assert_eq!(read(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_docker_does_not_take_shows_the_right_spelling() {
        let cases = [
            ("", "\"\" names no image (write one such as acme/thumbs:1.4)"),
            ("acme/thumbs: 1.4", "\"acme/thumbs: 1.4\" has a space (write one such as acme/thumbs:1.4)"),
            ("https://r.example/a", "\"https://r.example/a\" has a scheme (write it as r.example/a)"),
            (
                "./thumbs",
                "\"./thumbs\" is a path (Portway builds nothing: build the image with `docker build -t` and write its name)",
            ),
            (
                "acme/thumbs:",
                "\"acme/thumbs:\" ends in an empty tag (write one such as acme/thumbs:1.4; is a variable empty?)",
            ),
            ("Acme/Thumbs:V1", "\"Acme/Thumbs:V1\" has upper case in its name (write it as acme/thumbs:V1)"),
            ("acme//thumbs", "\"acme//thumbs\" is not the name of an image (write one such as acme/thumbs:1.4)"),
            (
                "r.example:x/thumbs",
                "\"r.example:x/thumbs\" is not the name of an image (write one such as acme/thumbs:1.4)",
            ),
            ("thumbs:a+b", "\"thumbs:a+b\" has a tag that no image can have (tags are letters, digits, - _ and .)"),
            (
                "thumbs@sha256:12",
                "\"thumbs@sha256:12\" has no proper digest (write it as NAME@sha256: and 64 hexadecimal digits)",
            ),
        ];
        for (text, want) in cases {
            assert_eq!(read(text), Err(want.to_owned()));
        }
    }
}
