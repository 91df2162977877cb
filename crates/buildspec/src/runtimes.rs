//! An image's `runtimes.yml`: which runtimes and versions it offers, and which of them a buildspec's
//! `runtime-versions` select (BS-090..099).
//!
//! Not here: reading the file from the image, expanding variables in versions, and running the commands.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diagnostic::{Code, Error, Findings, Span, quoted};
use crate::limits;
use crate::yaml::{self, Node, Value};

/// Where an image has the file.
pub const PATH: &str = "/codebuild/image/config/runtimes.yml";

/// What an image offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runtimes {
    by_name: BTreeMap<String, Runtime>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Runtime {
    versions: BTreeMap<String, Installation>,
    /// How a version that is not listed is installed.
    default: Option<Installation>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Installation {
    /// Runtimes with the versions of them that will do.
    requires: Vec<(String, Vec<String>)>,
    commands: Vec<String>,
}

/// A runtime that is to be made ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Its name.
    pub runtime: String,
    /// The version found for what was asked for; where it is custom, the text asked for.
    pub version: String,
    /// The image does not list the version: the commands install what the variable `VERSION` names (BS-092).
    pub custom: bool,
    /// One entry a command.
    pub commands: Vec<String>,
}

/// What came of selecting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Lines for the log, up to a refusal if there is one.
    pub lines: Vec<String>,
    /// In the order in which they are to be made ready: what others require comes before them. Or the message of the
    /// failure, whose status code is `YAML_FILE_ERROR`.
    pub selected: Result<Vec<Selected>, String>,
}

impl Runtimes {
    /// Parses the file. Versions are texts as they are spelled: `3.10` is not `3.1` (BS-014).
    ///
    /// # Errors
    /// No YAML, a value of the wrong kind, or a crossed limit.
    pub fn parse(text: &str) -> Result<Runtimes, Error> {
        if text.len() > limits::TEXT_BYTES {
            let message = format!("runtimes.yml has more than {} bytes", limits::TEXT_BYTES);
            return Err(Span::START.finding(Code::Limit, message));
        }
        let root = yaml::load(text, &mut Findings::default())?;
        let Some(runtimes) = root.as_deref().and_then(|root| child(root, "runtimes")) else {
            return Ok(Runtimes::default());
        };
        let by_name = entries(runtimes, "runtimes")?;
        if by_name.len() > limits::RUNTIMES {
            let message =
                format!("runtimes.yml has {} runtimes. At most {}", by_name.len(), limits::RUNTIMES);
            return Err(runtimes.span.finding(Code::Limit, message));
        }
        let by_name = by_name.into_iter().map(|(name, node)| Ok((name.to_owned(), runtime(node)?)));
        Ok(Runtimes { by_name: by_name.collect::<Result<_, Error>>()? })
    }

    /// Finds what is to be made ready for `wanted`, runtimes with versions whose variables are expanded.
    ///
    /// COMPAT: BS-099 only what is wanted, and what that requires, is selected.
    pub fn select(&self, wanted: &[(String, String)]) -> Selection {
        let mut selecting = Selecting {
            runtimes: self,
            wanted,
            lines: Vec::new(),
            done: Vec::new(),
            versions: BTreeMap::new(),
        };
        let selected = selecting.all();
        Selection { lines: selecting.lines, selected: selected.map(|()| selecting.done) }
    }
}

struct Selecting<'a> {
    runtimes: &'a Runtimes,
    wanted: &'a [(String, String)],
    lines: Vec<String>,
    done: Vec<Selected>,
    /// What has been decided for, finished or not.
    versions: BTreeMap<&'a str, &'a str>,
}

impl<'a> Selecting<'a> {
    fn all(&mut self) -> Result<(), String> {
        let wanted = self.wanted;
        // COMPAT: BS-094, before it is known whether the image has them.
        self.lines.extend(wanted.iter().map(|(name, version)| {
            format!("Selecting '{name}' runtime version '{version}' based on manual selections...")
        }));
        let mut found = Vec::new();
        for (name, version) in wanted {
            let runtime = self.runtime(name)?;
            let offer = runtime.offer(version).ok_or_else(|| runtime.unknown_version(name, version))?;
            self.versions.insert(name, offer.version);
            found.push((name.as_str(), offer));
        }
        found.into_iter().try_for_each(|(name, offer)| self.add(name, offer))
    }

    fn runtime(&self, name: &str) -> Result<&'a Runtime, String> {
        self.runtimes.by_name.get(name).ok_or_else(|| {
            // COMPAT: BS-095.
            let names: Vec<&str> = self.runtimes.by_name.keys().map(String::as_str).collect();
            let names = names.join(", ");
            format!("Unknown runtime named '{name}'. This build image has the following runtimes: {names}")
        })
    }

    /// COMPAT: BS-098 what it requires comes with it; a version that was asked for must be one that will do.
    fn add(&mut self, name: &str, offer: Offer<'a>) -> Result<(), String> {
        for (other, accepted) in &offer.installation.requires {
            match self.versions.get(other.as_str()) {
                Some(version) if accepted.iter().any(|one| one == version) => {}
                Some(version) => {
                    return Err(format!(
                        "Runtime {name} version '{}' requires {other} version {}, but '{version}' is selected",
                        offer.version,
                        accepted.join(" or "),
                    ));
                }
                None => self.require(name, other, accepted)?,
            }
        }
        self.done.push(Selected {
            runtime: name.to_owned(),
            version: offer.version.to_owned(),
            custom: offer.custom,
            commands: offer.installation.commands.clone(),
        });
        Ok(())
    }

    fn require(&mut self, by: &str, name: &'a str, accepted: &'a [String]) -> Result<(), String> {
        let runtime = self.runtime(name)?;
        let Some(first) = accepted.first() else { return Ok(()) };
        let offer = accepted.iter().find_map(|version| runtime.offer(version));
        let offer = offer.ok_or_else(|| runtime.unknown_version(name, first))?;
        let version = offer.version;
        self.lines
            .push(format!("Selecting '{name}' runtime version '{version}' because '{by}' requires it..."));
        self.versions.insert(name, version);
        self.add(name, offer)
    }
}

/// A version that can be had, and how.
#[derive(Clone, Copy)]
struct Offer<'a> {
    version: &'a str,
    custom: bool,
    installation: &'a Installation,
}

impl Runtime {
    /// COMPAT: BS-091, BS-092 exactly as listed, the newest of `MAJOR.x`, the newest of all for `latest`, or what the
    /// runtime installs by itself.
    fn offer<'a>(&'a self, wanted: &'a str) -> Option<Offer<'a>> {
        let newest = |fits: &dyn Fn(&str) -> bool| {
            let versions = self.versions.iter().filter(|(version, _)| fits(version));
            versions.max_by(|(one, _), (two, _)| by_age(one, two))
        };
        let listed = match (self.versions.get_key_value(wanted), wanted.strip_suffix(".x")) {
            (Some(listed), _) => Some(listed),
            (None, Some(major)) => newest(&|version| {
                version.strip_prefix(major).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }),
            (None, None) if wanted == "latest" => newest(&|_| true),
            (None, None) => None,
        };
        let listed = listed.map(|(version, installation)| Offer { version, custom: false, installation });
        let custom = |installation| Offer { version: wanted, custom: true, installation };
        listed.or_else(|| self.default.as_ref().map(custom))
    }

    // COMPAT: BS-095.
    fn unknown_version(&self, name: &str, version: &str) -> String {
        let mut versions: Vec<&str> = self.versions.keys().map(String::as_str).collect();
        versions.sort_by(|one, two| by_age(one, two));
        let versions = versions.join(", ");
        format!(
            "Unknown runtime version named '{version}' of {name}. This build image has the following versions: {versions}"
        )
    }
}

/// By the numbers in it, then by its text: `3.9` is older than `3.10`, `corretto8` than `corretto11`.
fn by_age(one: &str, two: &str) -> Ordering {
    let numbers = |text: &str| -> Vec<u64> {
        let digits = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
        // What is too long for a number is newer than all that is not.
        digits.map(|digits| digits.parse().unwrap_or(u64::MAX)).collect()
    };
    numbers(one).cmp(&numbers(two)).then_with(|| one.cmp(two))
}

fn runtime(node: &Node) -> Result<Runtime, Error> {
    let versions = match child(node, "versions") {
        Some(versions) => entries(versions, "versions")?,
        None => Vec::new(),
    };
    let versions = versions.into_iter().map(|(name, node)| Ok((name.to_owned(), installation(node)?)));
    let mut versions: BTreeMap<String, Installation> = versions.collect::<Result<_, Error>>()?;
    let default = child(node, "default").map(installation).transpose()?;
    // Among the versions as well as beside them.
    Ok(Runtime { default: default.or_else(|| versions.remove("default")), versions })
}

fn installation(node: &Node) -> Result<Installation, Error> {
    let requires = match child(node, "requires") {
        Some(requires) => entries(requires, "requires")?,
        None => Vec::new(),
    };
    let requires = requires.into_iter().map(|(name, node)| Ok((name.to_owned(), texts(node, name)?)));
    Ok(Installation {
        requires: requires.collect::<Result<_, Error>>()?,
        commands: child(node, "commands").map_or(Ok(Vec::new()), |commands| texts(commands, "commands"))?,
    })
}

fn child<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let Value::Map(entries) = &node.value else { return None };
    let entry = entries.iter().find(|entry| entry.key == name)?;
    Some(&*entry.node).filter(|node| !node.is_null())
}

fn entries<'n>(node: &'n Node, name: &str) -> Result<Vec<(&'n str, &'n Node)>, Error> {
    match &node.value {
        Value::Map(entries) => Ok(entries.iter().map(|entry| (entry.key.as_str(), &*entry.node)).collect()),
        _ if node.is_null() => Ok(Vec::new()),
        _ => Err(wrong_kind(node, name, "a map")),
    }
}

/// A list of texts; one text alone is a list, too.
fn texts(node: &Node, name: &str) -> Result<Vec<String>, Error> {
    let text = |node: &Arc<Node>| match &node.value {
        Value::Scalar { text, .. } => Ok(text.clone()),
        _ => Err(wrong_kind(node, name, "a list of texts")),
    };
    match &node.value {
        Value::List(items) => items.iter().map(text).collect(),
        Value::Scalar { text, .. } => Ok(vec![text.clone()]),
        Value::Map(_) => Err(wrong_kind(node, name, "a list of texts")),
    }
}

fn wrong_kind(node: &Node, name: &str, wanted: &str) -> Error {
    let line = node.span.line();
    let message = format!("{} in runtimes.yml has to be {wanted}, at line {line}", quoted(name));
    node.span.finding(Code::Type, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "
version: 0.1
runtimes:
  android:
    versions:
      28: {requires: {java: [openjdk8, corretto8]}, commands: [sdk 28]}
      29: {requires: {java: [openjdk8]}, commands: [sdk 29]}
  java:
    versions:
      openjdk8: {commands: [use 8]}
      openjdk11: {commands: [use 11]}
      corretto21: {commands: [use 21, export JAVA_HOME=/21]}
  python:
    versions:
      3.9: {commands: [py 3.9]}
      3.10: {commands: [py 3.10]}
      2.7: {commands: [py 2.7]}
  nodejs:
    versions:
      18: {commands: [n 18]}
      20: {commands: [n 20]}
    default: {commands: [n $VERSION]}
  broken:
    versions:
      1: {requires: {cobol: ['60']}}
";

    fn select(wanted: &[(&str, &str)]) -> Selection {
        let wanted: Vec<(String, String)> =
            wanted.iter().map(|(name, version)| ((*name).into(), (*version).into())).collect();
        Runtimes::parse(IMAGE).unwrap().select(&wanted)
    }

    #[track_caller]
    fn check(wanted: &[(&str, &str)], expect: &[(&str, &str, &[&str])]) {
        let selected = select(wanted).selected.unwrap();
        let found: Vec<(&str, &str, Vec<&str>)> = selected
            .iter()
            .map(|one| {
                let commands = one.commands.iter().map(String::as_str).collect();
                (one.runtime.as_str(), one.version.as_str(), commands)
            })
            .collect();
        let expect: Vec<_> = expect.iter().map(|(name, version, c)| (*name, *version, c.to_vec())).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn versions_are_found_by_each_documented_form() {
        // BS-014, BS-091, BS-099
        check(&[("python", "3.9")], &[("python", "3.9", &["py 3.9"])]);
        check(&[("python", "3.10")], &[("python", "3.10", &["py 3.10"])]);
        check(&[("python", "3.x")], &[("python", "3.10", &["py 3.10"])]);
        check(&[("python", "2.x")], &[("python", "2.7", &["py 2.7"])]);
        check(&[("python", "latest")], &[("python", "3.10", &["py 3.10"])]);
        check(&[("nodejs", "18.x")], &[("nodejs", "18", &["n 18"])]);
        check(&[("java", "latest")], &[("java", "corretto21", &["use 21", "export JAVA_HOME=/21"])]);
        check(
            &[("python", "2.7"), ("nodejs", "20")],
            &[("python", "2.7", &["py 2.7"]), ("nodejs", "20", &["n 20"])],
        );
    }

    #[test]
    fn a_version_that_is_not_listed_is_installed_where_the_runtime_can() {
        // BS-092
        let selected = select(&[("nodejs", "22.3.0")]).selected.unwrap();
        assert_eq!((selected[0].version.as_str(), selected[0].custom), ("22.3.0", true));
        assert_eq!(selected[0].commands, ["n $VERSION"]);
        assert!(!select(&[("nodejs", "20")]).selected.unwrap()[0].custom);
    }

    #[test]
    fn what_a_runtime_requires_comes_with_it_and_before_it() {
        // BS-098
        check(&[("android", "29")], &[("java", "openjdk8", &["use 8"]), ("android", "29", &["sdk 29"])]);
        check(
            &[("android", "28"), ("java", "openjdk8")],
            &[("android", "28", &["sdk 28"]), ("java", "openjdk8", &["use 8"])],
        );
        assert_eq!(
            select(&[("android", "29")]).lines,
            [
                "Selecting 'android' runtime version '29' based on manual selections...",
                "Selecting 'java' runtime version 'openjdk8' because 'android' requires it...",
            ]
        );
    }

    #[track_caller]
    fn check_refusal(wanted: &[(&str, &str)], message: &str, lines: usize) {
        let selection = select(wanted);
        assert_eq!(selection.selected, Err(message.to_owned()));
        assert_eq!(selection.lines.len(), lines);
    }

    #[test]
    fn what_is_not_offered_is_refused_with_what_is() {
        // BS-094, BS-095, BS-098
        check_refusal(
            &[("docker", "18")],
            "Unknown runtime named 'docker'. This build image has the following runtimes: android, broken, java, nodejs, \
             python",
            1,
        );
        check_refusal(
            &[("python", "3.8")],
            "Unknown runtime version named '3.8' of python. This build image has the following versions: 2.7, 3.9, 3.10",
            1,
        );
        check_refusal(
            &[("python", "4.x")],
            "Unknown runtime version named '4.x' of python. This build image has the following versions: 2.7, 3.9, 3.10",
            1,
        );
        check_refusal(
            &[("java", "openjdk11"), ("android", "29")],
            "Runtime android version '29' requires java version openjdk8, but 'openjdk11' is selected",
            2,
        );
        check_refusal(
            &[("broken", "1")],
            "Unknown runtime named 'cobol'. This build image has the following runtimes: android, broken, java, nodejs, \
             python",
            1,
        );
    }

    #[test]
    fn runtimes_that_require_each_other_are_selected_once() {
        let text = "runtimes: {a: {versions: {1: {requires: {b: ['1']}}}}, b: {versions: {1: {requires: {a: ['1']}}}}}";
        let selection = Runtimes::parse(text).unwrap().select(&[("a".into(), "1".into())]);
        assert_eq!(selection.selected.unwrap().len(), 2);
    }

    #[test]
    fn a_file_without_runtimes_offers_none_and_nonsense_is_an_error() {
        assert_eq!(Runtimes::parse("").unwrap(), Runtimes::default());
        assert_eq!(Runtimes::parse("version: 0.1\n").unwrap(), Runtimes::default());
        for text in [
            "runtimes: [a]",
            "runtimes: {a: {versions: 3}}",
            "runtimes: {a: {default: {commands: {x: 1}}}}",
            "a: [",
        ] {
            assert!(Runtimes::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_long_chain_of_requirements_is_refused() {
        let chain = |length: usize| -> String {
            let link =
                |at: usize| format!("  r{at}: {{versions: {{1: {{requires: {{r{}: [1]}}}}}}}}\n", at + 1);
            format!(
                "runtimes:\n{}  r{length}: {{versions: {{1: {{}}}}}}\n",
                (0..length).map(link).collect::<String>()
            )
        };
        let wanted = [("r0".to_owned(), "1".to_owned())];
        let selection = Runtimes::parse(&chain(limits::RUNTIMES - 1)).unwrap().select(&wanted);
        assert_eq!(selection.selected.unwrap().len(), limits::RUNTIMES);
        assert_eq!(Runtimes::parse(&chain(limits::RUNTIMES)).unwrap_err().code, Code::Limit);
    }
}
