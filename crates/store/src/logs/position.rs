//! A place between two events of a segment, and its text form.

use std::fmt;
use std::str::FromStr;

use super::frame::FILE_HEADER;
use crate::Error;

/// Beyond any file's end; adding a frame's size to anything less cannot overflow.
const FURTHEST: u64 = 1 << 62;

/// A place between two events: where a frame begins, in bytes of the file, and how many bytes of its payload lie
/// before. Positions stay valid while the segment grows. As text (`Display`, `FromStr`) they serve as tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub(super) frame: u64,
    pub(super) byte: u32,
}

impl Position {
    /// Before the first event of any segment.
    pub const START: Position = Position { frame: FILE_HEADER as u64, byte: 0 };

    pub(super) fn frame(frame: u64) -> Position {
        Position { frame, byte: 0 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}", self.frame, self.byte)
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(token: &str) -> Result<Position, Error> {
        let parse = || {
            let (frame, byte) = token.split_once('.')?;
            let position = Position {
                frame: u64::from_str_radix(frame, 16).ok()?,
                byte: u32::from_str_radix(byte, 16).ok()?,
            };
            let possible = position >= Position::START && position.frame < FURTHEST;
            (possible && position.to_string() == token).then_some(position)
        };
        parse().ok_or_else(|| Error::InvalidToken(token.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_as_text_and_nothing_else_passes_for_one() {
        let position = Position { frame: 0xde_adbe_ef00, byte: 0xffff };
        assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        for token in [
            "",
            ".",
            "10",
            "10.",
            ".10",
            "+10.0",
            "0.0",
            "10.0 ",
            "10.00",
            "zz.0",
            "10.1ffffffff",
            "4000000000000000.0",
        ] {
            assert!(matches!(token.parse::<Position>(), Err(Error::InvalidToken(_))), "{token}");
        }
    }
}
