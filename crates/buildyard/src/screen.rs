//! How a build's log looks on a terminal: service lines stand out, output is left as it came.

use std::io::{self, IsTerminal, Write};

/// Standard output (or standard error), plain in a pipe, coloured on a terminal unless `NO_COLOR` is set.
pub(crate) struct Screen {
    out: Box<dyn Write>,
    coloured: bool,
}

impl Screen {
    pub(crate) fn stdout() -> Screen {
        let coloured = io::stdout().is_terminal() && wants_colour();
        Screen { out: Box::new(io::stdout().lock()), coloured }
    }

    pub(crate) fn stderr() -> Screen {
        let coloured = io::stderr().is_terminal() && wants_colour();
        Screen { out: Box::new(io::stderr().lock()), coloured }
    }

    pub(crate) fn is_coloured(&self) -> bool {
        self.coloured
    }

    /// One event of the log: a line with its newline, or a piece of one.
    pub(crate) fn event(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.coloured || !bytes.starts_with(b"[Container] ") {
            return self.out.write_all(bytes);
        }
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        self.out.write_all(colour(line))?;
        self.out.write_all(line)?;
        self.out.write_all(b"\x1b[0m")?;
        self.out.write_all(&bytes[line.len()..])
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// A line of ours, without colour.
    pub(crate) fn tell(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// A closing line of ours.
    pub(crate) fn say(&mut self, text: &str, good: bool) -> io::Result<()> {
        match (self.coloured, good) {
            (true, true) => writeln!(self.out, "\x1b[1;32m{text}\x1b[0m"),
            (true, false) => writeln!(self.out, "\x1b[1;31m{text}\x1b[0m"),
            (false, _) => writeln!(self.out, "{text}"),
        }
    }
}

fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn colour(line: &[u8]) -> &'static [u8] {
    let says = |text: &[u8]| line.windows(text.len()).any(|window| window == text);
    match () {
        () if says(b"State: FAILED") || says(b"did not exit successfully") || says(b"State: TIMED_OUT") => {
            b"\x1b[31m"
        }
        () if says(b"State: SUCCEEDED") => b"\x1b[32m",
        () if says(b"Running command ") => b"\x1b[1m",
        () if says(b"Entering phase ") => b"\x1b[1;36m",
        () => b"\x1b[2m",
    }
}
