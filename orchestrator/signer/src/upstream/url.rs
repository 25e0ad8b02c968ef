//! The URL of a node. Its path may hold a provider's key, so that neither logs nor errors show it.

use std::fmt;
use std::str::FromStr;

use home::url::HomeUrl;
use thiserror::Error;

/// The longest path with its query.
const MAX_PATH: usize = 1024;

/// `https://HOST`, `https://HOST:PORT`, and a path behind it.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamUrl {
    server: HomeUrl,
    path: String,
}

/// Why a text is not the URL of a node. Does not show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a node's URL, expected https://HOST, https://HOST:PORT, or one of the two with a path behind it")]
pub struct UrlError;

impl UpstreamUrl {
    /// Host and port.
    #[must_use]
    pub const fn server(&self) -> &HomeUrl {
        &self.server
    }

    /// From its slash on, with the query.
    pub(crate) fn expose_path(&self) -> &str {
        &self.path
    }
}

impl FromStr for UpstreamUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        const SCHEME: &str = "https://";
        let rest = text.strip_prefix(SCHEME).ok_or(UrlError)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let server = format!("{SCHEME}{authority}").parse().map_err(|_shows_it| UrlError)?;
        let is_path = path.len() <= MAX_PATH
            && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte));
        is_path.then(|| Self { server, path: format!("/{path}") }).ok_or(UrlError)
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.server, f)
    }
}

impl fmt::Debug for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}, path redacted")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_kept_and_never_shown() {
        let url: UpstreamUrl = "https://base.example:8443/v3/hush?a=b".parse().unwrap();
        assert_eq!((url.to_string().as_str(), url.expose_path()), ("https://base.example:8443", "/v3/hush?a=b"));
        assert!(!format!("{url:?}").contains("hush"));
        for (text, path) in
            [("https://base.example", "/"), ("https://base.example/", "/"), ("https://[2001:db8::7]/x", "/x")]
        {
            assert_eq!(text.parse::<UpstreamUrl>().unwrap().expose_path(), path);
        }
    }

    #[test]
    fn anything_else_is_refused_and_not_shown() {
        for text in [
            "",
            "http://base.example",
            "base.example",
            "https://",
            "https:///hush",
            "https://me:hush@base.example",
            "https://base.example/a b",
            "https://base.example/#hush",
            "https://base.example:0/",
            "https://base.example?hush",
        ] {
            let error = text.parse::<UpstreamUrl>().unwrap_err();
            assert!(!error.to_string().contains("hush"), "{text}");
        }
        assert!(format!("https://base.example/{}", "x".repeat(MAX_PATH + 1)).parse::<UpstreamUrl>().is_err());
    }
}
