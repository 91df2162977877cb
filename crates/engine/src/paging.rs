//! Pages of lists. Tokens are plain here: whoever shows them to clients seals them.

/// COMPAT: AP-006 entries of a page.
pub(crate) const PAGE: usize = 100;

/// COMPAT: AP-006 an empty token is none.
pub(crate) fn after(token: Option<&str>) -> Option<&str> {
    token.filter(|token| !token.is_empty())
}
