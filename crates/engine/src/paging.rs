//! Page tokens: the store's, made opaque so that nobody comes to rely on what is in them.

use crate::error::{Error, Result};

/// COMPAT: AP-006.
pub(crate) const PAGE: usize = 100;

pub(crate) fn encode(token: &str) -> String {
    token.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// The store's token, from what a client sends back.
pub(crate) fn decode(token: Option<&str>) -> Result<Option<String>> {
    let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(None) };
    let decoded = bytes(token).and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.map(Some).ok_or_else(|| Error::InvalidInput(format!("Invalid next token: {token}")))
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = hex.chars().map(|digit| Some(digit.to_digit(16)? as u8)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_was() {
        let token = "builds:12:dèmo";
        assert_eq!(decode(Some(&encode(token))).expect("sound"), Some(token.to_string()));
    }

    #[test]
    fn no_token_is_no_token_and_nonsense_is_refused() {
        assert_eq!(decode(None).expect("fine"), None);
        assert_eq!(decode(Some("")).expect("fine"), None);
        for nonsense in ["x", "abc", "é0", "ff"] {
            assert!(matches!(decode(Some(nonsense)), Err(Error::InvalidInput(_))), "{nonsense}");
        }
    }
}
