//! The dialect, case by case: pattern, path, whether it matches.

use super::Pattern;
use crate::{Code, limits};

fn components(path: &str) -> Vec<&str> {
    path.split('/').filter(|component| !component.is_empty()).collect()
}

#[track_caller]
fn check(pattern: &str, selects: &[&str], leaves: &[&str]) {
    let parsed = Pattern::parse(pattern).unwrap();
    for path in selects {
        assert!(parsed.matches(&components(path)), "{pattern} should select {path}");
        let components = components(path);
        for depth in 0..components.len() {
            assert!(parsed.could_match_below(&components[..depth]), "{pattern} prunes a parent of {path}");
        }
    }
    for path in leaves {
        assert!(!parsed.matches(&components(path)), "{pattern} should leave {path}");
    }
}

#[test]
fn a_name_selects_itself_only() {
    check("app.jar", &["app.jar"], &["app.jar.sha", "dir/app.jar", "APP.jar", "", "app"]);
    check("target/app.jar", &["target/app.jar"], &["app.jar", "x/target/app.jar", "target/app.jar/x"]);
    check("target", &["target"], &["target/app.jar"]);
    check("a b/é.txt", &["a b/é.txt"], &["a b/e.txt"]);
}

// BS-180
#[test]
fn a_star_stays_inside_a_component() {
    check("*", &["a", ".hidden", "a.b"], &["a/b", ""]);
    check("*.jar", &["a.jar", ".jar"], &["a.jar.x", "dir/a.jar"]);
    check("a*", &["a", "ab", "abc"], &["ba", "a/b"]);
    check("a*b*c", &["abc", "aXbYc", "aabbcc", "abcbc"], &["ab", "acb", "abcd"]);
    check("dir/*", &["dir/a", "dir/.a"], &["dir", "dir/a/b", "a"]);
    check("*/b", &["a/b", "x/b"], &["b", "a/a/b"]);
    check("my-directory*/*.txt", &["my-directory1/a.txt", "my-directory/b.txt"], &["my-dir/a.txt"]);
    check("a**b", &["ab", "axxb"], &["a/b"]);
    check("***", &["a"], &["a/b"]);
}

// BS-137, BS-180, BS-181
#[test]
fn two_stars_span_components_and_take_depth_zero() {
    check("**/*", &["a", "a/b", "a/b/c", ".git/config", ".env", "a/.b/c"], &[""]);
    check("**", &["a", "a/b", ".env"], &[""]);
    check("dir/**/*", &["dir/a", "dir/a/b", "dir/.a/.b"], &["dir", "a", "x/dir/a"]);
    check("dir/**", &["dir/a", "dir/a/b"], &["dir", "dirs/a"]);
    check("**/*.xml", &["a.xml", "x/y/a.xml", "x/.xml"], &["a.xml/x", "a.txt"]);
    check("**/file-name/**/*", &["file-name/a", "x/file-name/y/z"], &["file-name", "x/a"]);
    check("a/**/b/**/c", &["a/b/c", "a/x/b/y/z/c", "a/b/b/c"], &["a/c", "b/c", "a/b/x"]);
    check("**/**/a", &["a", "x/a", "x/y/a"], &["b"]);
    check("**/target/*", &["target/a", "x/target/a"], &["target", "target/a/b"]);
}

#[test]
fn dot_files_and_dot_folders_can_be_named() {
    check("**/.*", &[".env", "a/.env"], &["a/b", "a.b", ".git/config"]);
    check("**/.*/**/*", &[".git/config", "a/.b/c/d"], &[".env", "a/b"]);
    check(".*/**/*", &[".git/config"], &["a/.git/config"]);
}

// BS-183
#[test]
fn a_question_mark_is_one_character() {
    check("?.txt", &["a.txt", "é.txt", "日.txt"], &["ab.txt", ".txt", "a/b.txt"]);
    check("a?c", &["abc", "a.c"], &["ac", "a/c", "abbc"]);
}

// BS-183
#[test]
fn brackets_are_one_character_of_a_set() {
    check("[abc].txt", &["a.txt", "c.txt"], &["d.txt", "ab.txt"]);
    check("[a-c]x", &["ax", "bx", "cx"], &["dx", "-x"]);
    check("[!a-c]x", &["dx", "-x", "éx"], &["ax", "x"]);
    check("[^a]", &["b"], &["a"]);
    check("[]]", &["]"], &["["]);
    check("[a-]", &["a", "-"], &["b"]);
    check("[à-ü]", &["é"], &["e"]);
    check("v[0-9]*.[ch]", &["v1.c", "v2x.h"], &["vx.c", "v1.o"]);
    check("[abc", &["[abc"], &["a"]);
    check("[", &["["], &["a"]);
    check("[z-a]", &[], &["a", "z", "-"]);
}

// BS-183
#[test]
fn braces_are_alternatives() {
    check("*.{js,css}", &["a.js", "a.css"], &["a.ts", "a.{js,css}"]);
    check("{src,test}/**/*.rs", &["src/a.rs", "test/x/b.rs"], &["lib/a.rs"]);
    check("a{,b}", &["a", "ab"], &["b"]);
    check("{a,{b,c}d}", &["a", "bd", "cd"], &["d", "b"]);
    check("{a/b,c}/d", &["a/b/d", "c/d"], &["a/d"]);
    check("{a}", &["{a}"], &["a"]);
    check("{a,b", &["{a,b"], &["a"]);
    check("a,b}", &["a,b}"], &["a"]);
    check("{{a,b}", &["{a", "{b"], &["a"]);
    check("x{a,b}y{c,d}", &["xayc", "xbyd"], &["xay", "xabyc"]);
    check("\\{a,b\\}", &["{a,b}"], &["a"]);
}

#[test]
fn a_backslash_takes_the_next_character_literally() {
    check("\\*", &["*"], &["a"]);
    check("a\\?b", &["a?b"], &["axb"]);
    check("\\[a]", &["[a]"], &["a"]);
    check("a\\", &["a\\"], &["a"]);
}

#[test]
fn dots_and_doubled_slashes_mean_nothing() {
    check("./a", &["a"], &["./a/b"]);
    check("./**/*.txt", &["a.txt", "b/a.txt"], &[]);
    check("a//b", &["a/b"], &[]);
    check("a/./b", &["a/b"], &[]);
}

// BS-143, BS-182
#[test]
fn a_pattern_that_can_only_be_a_folder_selects_nothing() {
    for pattern in ["target/", "**/", "./", ".", "", "/", "a/*/"] {
        check(pattern, &[], &["target", "a", "target/a", ".", "a/b"]);
    }
}

// BS-184
#[test]
fn an_exclamation_mark_does_not_negate() {
    check("!a", &["!a"], &["a", "b"]);
}

#[test]
fn parents_match_no_path_a_walk_can_make() {
    check("../a", &[], &["a", "b/a"]);
}

// BS-142, BS-150
#[test]
fn a_leading_slash_makes_a_pattern_absolute() {
    check("/root/.m2/**/*", &["root/.m2/a", "root/.m2/repository/b"], &["root/a"]);
    assert!(Pattern::parse("/root/.m2/**/*").unwrap().is_absolute());
    assert!(!Pattern::parse("root").unwrap().is_absolute());
}

#[test]
fn names_that_are_not_utf8_match_wildcards() {
    let name: &[u8] = b"a\xffb";
    for (pattern, expect) in [("*", true), ("a?b", true), ("a*b", true), ("a[!x]b", true), ("a[x]b", false)] {
        assert_eq!(Pattern::parse(pattern).unwrap().matches(&[name]), expect, "{pattern}");
    }
}

#[track_caller]
fn check_walk(pattern: &str, enters: &[&str], leaves_out: &[&str]) {
    let parsed = Pattern::parse(pattern).unwrap();
    for directory in enters {
        assert!(parsed.could_match_below(&components(directory)), "{pattern} should enter {directory}");
    }
    for directory in leaves_out {
        assert!(!parsed.could_match_below(&components(directory)), "{pattern} should leave out {directory}");
    }
}

#[test]
fn folders_in_which_nothing_can_match_are_left_out() {
    check_walk("app.jar", &[""], &["app.jar", "target"]);
    check_walk("target/*.jar", &["", "target"], &["src", "target/classes"]);
    check_walk("target/**/*.jar", &["", "target", "target/a/b"], &["src", "src/target"]);
    check_walk("**/*", &["", "a", "a/b/c"], &[]);
    check_walk("*/build/**", &["", "a", "a/build", "a/build/x"], &["a/src", "a/x/build"]);
    check_walk("{a,b}/c", &["", "a", "b"], &["c", "a/c"]);
    check_walk("target/", &[], &["", "target"]);
}

#[test]
fn patterns_without_bound_are_refused() {
    #[track_caller]
    fn check(pattern: &str) {
        assert_eq!(Pattern::parse(pattern).unwrap_err().code, Code::Limit);
    }
    check(&"a".repeat(limits::GLOB_BYTES + 1));
    check(&"{a,b}".repeat(20));
    check(&("{a,".repeat(400) + &"}".repeat(400)));
    assert!(Pattern::parse(&"{a,b}".repeat(8)).is_ok());
}

#[test]
fn no_pattern_is_slow() {
    let name = "a".repeat(255);
    let stars = Pattern::parse(&("*a".repeat(1000) + "b")).unwrap();
    assert!(!stars.matches(&[&name]));
    let path = vec!["a"; 1000];
    let depths = Pattern::parse(&("**/a/".repeat(500) + "b")).unwrap();
    assert!(!depths.matches(&path));
}
