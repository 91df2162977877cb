//! Links between documents: what a Markdown file points to in the repository is there.

use std::collections::BTreeSet;

use super::Finding;

/// Checks the links of one Markdown file against the paths of all files.
pub(super) fn check(path: &str, text: &str, all: &BTreeSet<String>) -> Vec<Finding> {
    let numbered = text.lines().enumerate();
    let broken = numbered.flat_map(|(index, line)| {
        let targets = targets(line).filter(|target| !leads_somewhere(path, target, all));
        targets.map(move |target| (index + 1, target))
    });
    let what = |target| format!("the link to `{target}` leads nowhere");
    broken.map(|(line, target)| Finding { path: path.into(), line, what: what(target) }).collect()
}

/// What stands in `](...)`, without the part after `#`; addresses elsewhere and places in the same file are left out.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let after = line.split("](").skip(1);
    let targets = after.filter_map(|rest| rest.split([')', '#', ' ']).next());
    targets.filter(|target| !target.is_empty() && !target.contains(':'))
}

fn leads_somewhere(path: &str, target: &str, all: &BTreeSet<String>) -> bool {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." if parts.pop().is_none() => return false,
            ".." => {}
            name => parts.push(name),
        }
    }
    let place = parts.join("/");
    all.contains(&place)
        || all.range(format!("{place}/")..).next().is_some_and(|next| next.starts_with(&format!("{place}/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> usize {
        let all = ["README.md", "docs/run.md", "docs/isolation.md", "crates/api/src/lib.rs"]
            .map(String::from)
            .into();
        check(path, text, &all).len()
    }

    #[test]
    fn links_are_followed_from_the_file_they_stand_in() {
        assert_eq!(
            broken(
                "README.md",
                "[a](docs/run.md#flags) [b](docs/) [c](crates/api) [d](#e) [f](https://x.org/y)"
            ),
            0
        );
        assert_eq!(broken("docs/run.md", "[a](isolation.md), [b](../README.md)"), 0);
        assert_eq!(broken("README.md", "[a](run.md), [b](../README.md), [c](doc)"), 3);
    }
}
