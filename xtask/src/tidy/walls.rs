//! What Rust code may not do outside the room that is made for it. Each row is a wall of ARCHITECTURE.md.

use super::Finding;
use super::text::Rust;

enum Where {
    Code,
    /// String literals.
    Literals,
}

struct Wall {
    /// Any of these, as whole words.
    words: &'static [&'static str],
    look: Where,
    /// Prefixes of the paths the wall stands around; all if empty.
    within: &'static [&'static str],
    /// Prefixes of paths where it is allowed.
    except: &'static [&'static str],
    /// Unit tests and integration tests may do it too.
    tests_may: bool,
    what: &'static str,
}

const WALLS: &[Wall] = &[
    Wall {
        words: &["unsafe", "allow(unsafe_code)", "expect(unsafe_code)"],
        look: Where::Code,
        within: &[],
        except: &["crates/container/"],
        tests_may: false,
        what: "unsafe code lives in `container` only",
    },
    Wall {
        words: &["rusqlite", "tokio_postgres", "sqlx"],
        look: Where::Code,
        within: &[],
        except: &["crates/store/"],
        tests_may: false,
        what: "the database is spoken to in `store` only",
    },
    Wall {
        words: &["SELECT", "INSERT INTO", "DELETE FROM", "CREATE TABLE", "PRAGMA"],
        look: Where::Literals,
        within: &[],
        except: &["crates/store/", "xtask/src/tidy/"],
        tests_may: false,
        what: "SQL lives in `store` only",
    },
    Wall {
        words: &["env::var", "env::var_os", "env::vars", "env::vars_os", "env::set_var", "env::remove_var"],
        look: Where::Code,
        within: &[],
        except: &["crates/buildyard/", "xtask/", "tests/"],
        tests_may: true,
        what: "environment variables are read in `buildyard` only; hand the value down",
    },
    Wall {
        words: &["SystemTime::now", "Utc::now", "Local::now", "clock_gettime"],
        look: Where::Code,
        within: &[],
        except: &["crates/engine/src/clock.rs", "crates/agent/src/clock.rs", "xtask/", "tests/"],
        tests_may: true,
        what: "the wall clock is asked in engine::clock and agent::clock only",
    },
    Wall {
        words: &["std::fs", "std::net", "std::process", "std::thread", "Instant::now", "SystemTime::now"],
        look: Where::Code,
        within: &["crates/access/src/", "crates/api/src/", "crates/buildspec/src/", "crates/report/src/"],
        except: &[],
        tests_may: true,
        what: "this room is pure: no files, no network, no clock, no threads",
    },
    Wall {
        words: &["Embedded", "embedded", "rusqlite", "sqlite", "postgres"],
        look: Where::Code,
        within: &["crates/engine/src/"],
        except: &[],
        tests_may: true,
        what: "`engine` names no concrete executor and no database",
    },
    Wall {
        words: &["#[ignore"],
        look: Where::Code,
        within: &[],
        except: &[],
        tests_may: false,
        what: "a test that is ignored tests nothing; mend it or take it away",
    },
];

pub(super) fn check(path: &str, rust: &Rust) -> Vec<Finding> {
    WALLS.iter().filter(|wall| wall.stands_around(path)).flat_map(|wall| wall.check(path, rust)).collect()
}

impl Wall {
    fn stands_around(&self, path: &str) -> bool {
        let below = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
        let around = self.within.is_empty() || below(self.within);
        around && !below(self.except) && !(self.tests_may && is_test(path))
    }

    fn check(&self, path: &str, rust: &Rust) -> Vec<Finding> {
        let mut findings = Vec::new();
        let look = |(line, text): (usize, &str)| {
            if let Some(word) = self.words.iter().find(|word| has_word(text, word)) {
                findings.push(Finding { path: path.into(), line, what: format!("`{word}`: {}", self.what) });
            }
        };
        match (&self.look, self.tests_may) {
            (Where::Code, true) => rust.code_lines().for_each(look),
            (Where::Code, false) => rust.all_code_lines().for_each(look),
            (Where::Literals, _) => rust.literal_lines().for_each(look),
        }
        findings
    }
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// Whether `text` holds `word` with no part of a word before or after it.
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.chars().next_back().is_some_and(part) && !after.chars().next().is_some_and(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(path, &Rust::read(text)).iter().map(Finding::to_string).collect()
    }

    fn refused(path: &str, text: &str) {
        assert_eq!(findings(path, text).len(), 1, "{path}: {text}");
    }

    fn fine(path: &str, text: &str) {
        assert_eq!(findings(path, text), Vec::<String>::new(), "{path}: {text}");
    }

    #[test]
    fn each_wall_stands_where_it_should_and_has_its_door() {
        refused("crates/agent/src/a.rs", "unsafe { a() }");
        fine("crates/container/src/a.rs", "unsafe { a() }");
        refused("crates/engine/src/a.rs", "a(\"SELECT a FROM b\")");
        fine("crates/store/src/a.rs", "a(\"SELECT a FROM b\")");
        refused("crates/image/src/a.rs", "std::env::var(\"A\")");
        fine("crates/buildyard/src/a.rs", "std::env::var_os(\"A\")");
        refused("crates/server/src/a.rs", "SystemTime::now()");
        fine("crates/engine/src/clock.rs", "SystemTime::now()");
        refused("crates/api/src/a.rs", "use std::fs::File;");
        fine("crates/store/src/a.rs", "use std::fs::File;");
        refused("crates/engine/src/a.rs", "executor::Embedded::open(a)");
        fine("crates/buildyard/src/a.rs", "executor::Embedded::open(a)");
    }

    #[test]
    fn a_word_in_a_comment_or_inside_another_word_is_no_breach() {
        fine("crates/agent/src/a.rs", "// unsafe\n/* unsafe */ fn unsafely() { a(\"unsafe\") }");
        fine("crates/engine/src/a.rs", "// SELECT\nfn SELECTED() {}");
    }

    #[test]
    fn tests_may_read_the_clock_but_not_hide_unsafe_code_or_be_ignored() {
        fine("crates/engine/src/a.rs", "#[cfg(test)]\nmod tests {\n  SystemTime::now();\n}");
        fine("crates/engine/src/a/tests.rs", "SystemTime::now()");
        refused("crates/engine/src/a.rs", "#[cfg(test)]\nmod tests {\n  unsafe { a() }\n}");
        refused("crates/engine/tests/engine.rs", "#[ignore = \"slow\"]\nfn a() {}");
    }
}
