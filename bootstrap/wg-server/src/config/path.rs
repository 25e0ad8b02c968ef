//! Paths in `parent.toml`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// Paths end up in named.conf between quotes and in messages: nothing there may need escaping.
pub(super) fn absolute(key: &str, path: PathBuf) -> Result<PathBuf> {
    let text = path.to_str().with_context(|| format!("{key}: expected a path in UTF-8"))?;
    ensure!(path.is_absolute(), "{key}: {text:?}, expected an absolute path");
    ensure!(
        !text.contains(|c: char| c.is_control() || matches!(c, '"' | '\\' | '%')),
        "{key}: {text:?}, expected a path without quotes, backslashes, percent signs and control characters"
    );
    Ok(path)
}
