//! Guesses which known word a mistyped one was meant to be.

/// Longest word worth a guess, in bytes; keeps hostile keys cheap.
const LONGEST: usize = 40;

/// The known word nearest to `word`, if one is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    if word.len() > LONGEST {
        return None;
    }
    let word = plain(word);
    let allowed = if word.len() < 5 { 1 } else { 2 };
    let distances = known.iter().map(|&candidate| (distance_to(&word, &plain(candidate)), candidate));
    distances.filter(|&(distance, _)| distance <= allowed).min().map(|(_, candidate)| candidate)
}

/// A word cut short is as near as one with a single slip.
fn distance_to(word: &[char], candidate: &[char]) -> usize {
    if word.len() >= 3 && candidate.len() > word.len() && candidate.starts_with(word) {
        1
    } else {
        distance(word, candidate)
    }
}

/// Without what people get wrong most: case, and `_` for `-`.
fn plain(word: &str) -> Vec<char> {
    word.chars().map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Levenshtein distance: insertions, deletions and substitutions that make `a` into `b`.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[track_caller]
    fn check(word: &str, expect: Option<&str>) {
        assert_eq!(
            nearest(word, &["phases", "artifacts", "env", "base-directory", "cache"]),
            expect,
            "{word}"
        );
    }

    #[test]
    fn the_nearest_known_word_is_guessed_and_far_ones_are_not() {
        check("phase", Some("phases"));
        check("artefacts", Some("artifacts"));
        check("Artifacts", Some("artifacts"));
        check("base_directory", Some("base-directory"));
        check("basedirectory", Some("base-directory"));
        check("art", Some("artifacts"));
        check("envs", Some("env"));
        check("en", Some("env"));
        check("cahce", Some("cache"));
        check("e", None);
        check("x-common", None);
        check("", None);
        check(&"a".repeat(100_000), None);
    }
}
