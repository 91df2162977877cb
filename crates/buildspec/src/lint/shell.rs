//! A script as the commands in it, as far as that can be told without running it. Not a shell: what stands in quotes, in
//! substitutions and in here documents is passed over, and a script that is no script comes out as some words.

/// A command with its arguments: what stands between `;`, `|`, `&&` and the like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Simple<'t> {
    /// As written, quotes included; never empty. Redirections that only bash has are words too: `&>`, `<<<`, `<(`.
    pub(super) words: Vec<&'t str>,
    /// Reached whenever the script is: in no `if`, loop, function, group, pipe, nor behind `&&` or `||`.
    pub(super) unconditional: bool,
}

impl<'t> Simple<'t> {
    /// The words from the command's name on; empty for mere assignments.
    pub(super) fn named(&self) -> &[&'t str] {
        let name = self.words.iter().position(|word| assigned(word).is_none()).unwrap_or(self.words.len());
        &self.words[name..]
    }
}

/// The variable that a word assigns to, as in `NAME=value` and `NAME+=value`.
pub(super) fn assigned(word: &str) -> Option<&str> {
    let (name, _) = word.split_once('=')?;
    let name = name.strip_suffix('+').unwrap_or(name);
    is_name(name).then_some(name)
}

/// Whether shells can have a variable of that name.
pub(super) fn is_name(text: &str) -> bool {
    let part = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
    !text.is_empty() && !text.as_bytes()[0].is_ascii_digit() && text.bytes().all(part)
}

/// The commands of a script in the order they stand.
pub(super) fn commands(script: &str) -> Vec<Simple<'_>> {
    let mut reader = Reader {
        script,
        bytes: script.as_bytes(),
        at: 0,
        words: Vec::new(),
        conditional: false,
        open: Vec::new(),
        here_documents: Vec::new(),
        commands: Vec::new(),
    };
    reader.read();
    reader.commands
}

struct Reader<'t> {
    script: &'t str,
    bytes: &'t [u8],
    at: usize,
    /// Of the command that is being read.
    words: Vec<&'t str>,
    /// Whether what came before decides about the command that is being read.
    conditional: bool,
    /// What has been begun and not ended: `if`, `do`, `{`, `(` and so on.
    open: Vec<&'static str>,
    /// The last lines of here documents that begin with the next line.
    here_documents: Vec<&'t str>,
    commands: Vec<Simple<'t>>,
}

/// Words that begin something, and those that end it.
const BEGIN: &[(&str, &str)] = &[
    ("if", "fi"),
    ("while", "done"),
    ("until", "done"),
    ("for", "done"),
    ("select", "done"),
    ("case", "esac"),
    ("{", "}"),
];

/// Words behind which the next command stands.
const BETWEEN: &[&str] = &["then", "else", "elif", "do", "!", "time"];

impl<'t> Reader<'t> {
    fn read(&mut self) {
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'\n' => self.end_line(),
                b'#' => self.skip_line(),
                b';' | b'&' | b'|' | b'<' | b'>' => self.operator(),
                b'(' => self.open_parenthesis(),
                b')' => self.close_parenthesis(),
                b'\\' if self.bytes.get(self.at + 1) == Some(&b'\n') => self.at += 2,
                _ => self.word(),
            }
        }
        self.end_command(false);
    }

    /// Ends the command that is being read; `decides` whether the next one runs.
    fn end_command(&mut self, decides: bool) {
        let words = std::mem::take(&mut self.words);
        if !words.is_empty() {
            let unconditional = !self.conditional && self.open.is_empty();
            self.commands.push(Simple { words, unconditional });
        }
        self.conditional = decides;
    }

    fn end_line(&mut self) {
        self.at += 1;
        // A line may end after `&&`: what follows still depends on what came before.
        let decides = self.conditional && self.words.is_empty();
        self.end_command(decides);
        for last_line in std::mem::take(&mut self.here_documents) {
            self.skip_here_document(last_line);
        }
    }

    fn skip_line(&mut self) {
        let rest = &self.bytes[self.at..];
        self.at += rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    }

    fn skip_here_document(&mut self, last_line: &str) {
        while self.at < self.bytes.len() {
            let from = self.at;
            self.skip_line();
            let line = &self.script[from..self.at];
            self.at = (self.at + 1).min(self.bytes.len());
            if line.trim() == last_line {
                return;
            }
        }
    }

    fn operator(&mut self) {
        let rest = &self.script[self.at..];
        let known = ["&&", "||", ";;", "&>", "<<<", "<<-", "<<", "<(", ">(", ">&", "<&", ">>", ">|"];
        let operator = known.into_iter().find(|known| rest.starts_with(known)).unwrap_or(&rest[..1]);
        let from = self.at;
        self.at += operator.len();
        match operator {
            "&&" | "||" => self.end_command(true),
            // Both sides of a pipe are in shells of their own.
            "|" => {
                self.conditional = true;
                self.end_command(true);
            }
            "&" => {
                self.conditional = true;
                self.end_command(false);
            }
            ";" | ";;" => self.end_command(false),
            "<<" | "<<-" => self.here_document(),
            "&>" | "<<<" => self.words.push(&self.script[from..self.at]),
            "<(" | ">(" => {
                self.words.push(&self.script[from..self.at]);
                self.at = past(self.bytes, self.at, Nest::Parenthesis);
            }
            _ => {}
        }
    }

    fn here_document(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t')) {
            self.at += 1;
        }
        let from = self.at;
        self.at = self.end_of_word();
        self.here_documents.push(self.script[from..self.at].trim_matches(['\'', '"', '\\']));
    }

    fn open_parenthesis(&mut self) {
        if self.words.is_empty() && self.script[self.at..].starts_with("((") {
            self.words.push(&self.script[self.at..self.at + 2]);
            self.at = past(self.bytes, self.at + 1, Nest::Parenthesis);
        } else if self.script[self.at..].starts_with("()") {
            // A function: its body is run by whoever calls it.
            self.at += 2;
            self.words.clear();
        } else {
            self.at += 1;
            self.end_command(self.conditional);
            self.open.push(")");
        }
    }

    /// In `case` it ends a pattern.
    fn close_parenthesis(&mut self) {
        self.at += 1;
        self.end_command(false);
        if self.open.last() == Some(&")") {
            self.open.pop();
        }
    }

    fn word(&mut self) {
        let from = self.at;
        self.at = self.end_of_word();
        let word = &self.script[from..self.at];
        if !self.words.is_empty() || !self.keyword(word) {
            self.words.push(word);
        }
    }

    /// Whether a command's first word is a word of the language that says nothing by itself.
    fn keyword(&mut self, word: &str) -> bool {
        if let Some(&(_, end)) = BEGIN.iter().find(|(begin, _)| *begin == word) {
            self.open.push(end);
            return matches!(word, "if" | "while" | "until" | "{");
        }
        if self.open.last() == Some(&word) {
            self.open.pop();
            return true;
        }
        BETWEEN.contains(&word)
    }

    /// Where the word that begins here ends; always at least one byte on.
    fn end_of_word(&self) -> usize {
        let mut at = self.at;
        while let Some(&byte) = self.bytes.get(at) {
            at = match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'&' | b'|' | b'<' | b'>' | b')' => break,
                // An array: NAME=(...).
                b'(' if at > self.at && self.bytes[at - 1] == b'=' => {
                    past(self.bytes, at + 1, Nest::Parenthesis)
                }
                b'(' => break,
                b'\\' => at + 2,
                b'\'' => past_single(self.bytes, at + 1),
                b'"' => past(self.bytes, at + 1, Nest::Double),
                b'`' => past(self.bytes, at + 1, Nest::Backtick),
                b'$' => past_substitution(self.bytes, at),
                _ => at + 1,
            };
        }
        let mut end = at.min(self.bytes.len()).max((self.at + 1).min(self.bytes.len()));
        while !self.script.is_char_boundary(end) {
            end += 1;
        }
        end
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nest {
    Parenthesis,
    Brace,
    Double,
    Backtick,
}

fn past_single(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    rest.iter().position(|&byte| byte == b'\'').map_or(bytes.len(), |at| from + at + 1)
}

/// Past `$(...)`, `${...}` or, if it is neither, the dollar sign.
fn past_substitution(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at + 1) {
        Some(b'(') => past(bytes, at + 2, Nest::Parenthesis),
        Some(b'{') => past(bytes, at + 2, Nest::Brace),
        _ => at + 1,
    }
}

/// Past the end of what has been opened before `at`, with all that is in it. On a list of its own rather than the stack, so that
/// no script can exhaust that.
fn past(bytes: &[u8], mut at: usize, opened: Nest) -> usize {
    let mut open = vec![opened];
    while let (Some(&byte), Some(&inner)) = (bytes.get(at), open.last()) {
        let next = bytes.get(at + 1);
        at += 1;
        match (byte, inner) {
            (b'\\', _) => at += 1,
            (b')', Nest::Parenthesis)
            | (b'}', Nest::Brace)
            | (b'"', Nest::Double)
            | (b'`', Nest::Backtick) => {
                open.pop();
            }
            (b'\'', Nest::Parenthesis | Nest::Brace) => at = past_single(bytes, at),
            (b'"', Nest::Parenthesis | Nest::Brace) => open.push(Nest::Double),
            (b'(', Nest::Parenthesis) => open.push(Nest::Parenthesis),
            (b'$', Nest::Parenthesis | Nest::Brace | Nest::Double) if next == Some(&b'(') => {
                open.push(Nest::Parenthesis);
                at += 1;
            }
            (b'$', Nest::Parenthesis | Nest::Brace | Nest::Double) if next == Some(&b'{') => {
                open.push(Nest::Brace);
                at += 1;
            }
            _ => {}
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(script: &str, expect: &[&str]) {
        let shown: Vec<String> = commands(script)
            .iter()
            .map(|simple| {
                format!("{}{}", if simple.unconditional { "" } else { "?" }, simple.words.join(" "))
            })
            .collect();
        assert_eq!(shown, expect, "{script}");
    }

    #[test]
    fn commands_stand_between_operators() {
        check("", &[]);
        check("make", &["make"]);
        check("a; b\nc", &["a", "b", "c"]);
        check("a && b || c; d", &["a", "?b", "?c", "d"]);
        check("a &&\nb\nc", &["a", "?b", "c"]);
        check("a | b", &["?a", "?b"]);
        check("a & b", &["?a", "b"]);
        check("a \\\n  b", &["a b"]);
        check("a 2>&1 >x # b; c\nd", &["a 2 1 x", "d"]);
        check("X=1 Y='a b' cmd \"c d\"", &["X=1 Y='a b' cmd \"c d\""]);
    }

    #[test]
    fn what_is_inside_something_may_not_run() {
        check("if a; then b; else c; fi; d", &["?a", "?b", "?c", "d"]);
        check("for x in 1 2; do a; done\nb", &["?for x in 1 2", "?a", "b"]);
        check("case $x in\n a) b ;;\n *) c ;;\nesac\nd", &["?case $x in", "?a", "?b", "?*", "?c", "d"]);
        check("(a; b); c", &["?a", "?b", "c"]);
        check("{ a; }; b", &["?a", "b"]);
        check("f() { a; }\nb", &["?a", "b"]);
        check("[ -f x ] || { a; exit 1; }", &["[ -f x ]", "?a", "?exit 1"]);
    }

    #[test]
    fn quotes_substitutions_and_here_documents_are_passed_over() {
        check("echo 'a; b' \"c && $(d \"e; f\")\" `g; h`", &["echo 'a; b' \"c && $(d \"e; f\")\" `g; h`"]);
        check("X=$(a | b; c) d", &["X=$(a | b; c) d"]);
        check("cat <<EOF > x\na; b\nEOF\nc", &["cat x", "c"]);
        check("cat <<-'EOF'\n\ta\n\tEOF\nc", &["cat", "c"]);
        check("a=(1 2 3); b", &["a=(1 2 3)", "b"]);
        check("x <<< y; z <(w; v)", &["x <<< y", "z <("]);
        check("a &> b", &["a &> b"]);
        check("((x++)); y", &["((", "y"]);
        check("é 'ü", &["é 'ü"]);
    }

    #[test]
    fn a_command_is_named_behind_its_assignments() {
        let named = |script| commands(script)[0].named().join(" ");
        assert_eq!(named("A=1 B=2 make all"), "make all");
        assert_eq!(named("A=1"), "");
        assert_eq!(assigned("A+=x"), Some("A"));
        assert_eq!(assigned("a-b=c"), None);
        assert_eq!(assigned("1=c"), None);
    }
}
