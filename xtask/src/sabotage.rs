//! `cargo xtask sabotage`: breaks the product on purpose, in a copy, and sees that the test which is there for it fails.
//!
//! A sabotage is a patch in `tests/sabotage` whose head says what it breaks and which test notices. Tests that notice nothing
//! when something is broken show nothing when it is not. To notice is to run, to come to an end and to say what is wrong: a test that hangs, crashes or is not there
//! has not. A test is one of cargo's, or a system test, to which the broken binary is given. What does not live here: the tests.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::error::{Error, at};

pub(crate) const USAGE: &str = "[NAME ...]    break the product on purpose and see that its tests notice";

const PATCHES: &str = "tests/sabotage";

/// A test that takes longer hangs, which is no way to notice something.
const PATIENCE: Duration = Duration::from_secs(180);

/// A patch and what its head says.
#[derive(Debug)]
struct Sabotage {
    name: String,
    path: PathBuf,
    /// What the patch takes away, in words.
    breaks: String,
    test: Test,
}

/// Who is to notice.
#[derive(Debug)]
enum Test {
    /// `target`: which of cargo's targets has it, in cargo's words. `name`: what it is called there.
    Cargo { target: Vec<String>, name: String },
    /// The file and the name of a system test, in pytest's words.
    System { id: String },
}

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let all = all(&crate::root())?;
    let is_wanted = |one: &&Sabotage| arguments.is_empty() || arguments.contains(&one.name);
    let wanted: Vec<&Sabotage> = all.iter().filter(is_wanted).collect();
    if wanted.is_empty() || wanted.len() < arguments.len() {
        let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
        return Err(Error::Usage(format!("  cargo xtask sabotage {USAGE}, of: {}", names.join(", "))));
    }
    let copy = Copy::make()?;
    // All of them before anything is broken: what they test is compiled once.
    let sound =
        wanted.iter().map(|sabotage| copy.is_sound(sabotage)).collect::<Result<Vec<bool>, Error>>()?;
    let mut unnoticed = Vec::new();
    for (sabotage, is_sound) in wanted.iter().zip(sound) {
        let outcome = if is_sound { copy.try_out(sabotage)? } else { "its test fails without it" };
        println!("{:<24} {:<60} {outcome}", sabotage.name, sabotage.breaks);
        if outcome != NOTICED {
            unnoticed.push(format!("{}: {outcome}", sabotage.name));
        }
    }
    println!("sabotage: {} of {} noticed", wanted.len() - unnoticed.len(), wanted.len());
    if unnoticed.is_empty() { Ok(()) } else { Err(Error::Untidy(unnoticed)) }
}

const NOTICED: &str = "noticed";

/// All sabotages there are, by name.
fn all(root: &Path) -> Result<Vec<Sabotage>, Error> {
    let folder = root.join(PATCHES);
    let entries = fs::read_dir(&folder).map_err(at(&folder))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    paths.sort();
    paths.iter().map(|path| Sabotage::read(path)).collect()
}

impl Sabotage {
    fn read(path: &Path) -> Result<Sabotage, Error> {
        let text = fs::read_to_string(path).map_err(at(path))?;
        let head: Vec<&str> = text.lines().take_while(|line| !line.starts_with("diff ")).collect();
        let said = |what: &str| {
            let line = head.iter().find_map(|line| line.strip_prefix(what));
            let missing = || Error::Unsupported(format!("{} has no line `{what}`", path.display()));
            line.map(|line| line.trim().to_owned()).ok_or_else(missing)
        };
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let test = match said("Test:")? {
            id if id.contains(".py::") => Test::System { id },
            name => Test::Cargo { target: said("Target:")?.split(' ').map(str::to_owned).collect(), name },
        };
        Ok(Sabotage { name, path: path.to_owned(), breaks: said("Breaks:")?, test })
    }
}

/// The tree with everything that is not committed yet, elsewhere, and with a target folder of its own.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Files that have not changed since the last time are left alone, so that little is compiled again.
    fn make() -> Result<Copy, Error> {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| crate::root().join("target"), PathBuf::from)
            .join("sabotage");
        let copy = Copy { tree: target.join("tree"), target: target.join("target") };
        for file in listed()? {
            copy.bring(&file)?;
        }
        // So that patches are applied to this tree and not to the one around it.
        if !copy.tree.join(".git").exists() {
            done(Command::new("git").args(["init", "--quiet"]).current_dir(&copy.tree), "git init")?;
        }
        Ok(copy)
    }

    fn bring(&self, file: &str) -> Result<(), Error> {
        let (from, to) = (crate::root().join(file), self.tree.join(file));
        let Ok(content) = fs::read(&from) else { return Ok(()) };
        if fs::read(&to).is_ok_and(|there| there == content) {
            return Ok(());
        }
        let folder = to.parent().expect("it lies in the tree");
        fs::create_dir_all(folder).map_err(at(folder))?;
        fs::copy(&from, &to).map(drop).map_err(at(&to))
    }

    /// The test passes without the patch.
    fn is_sound(&self, sabotage: &Sabotage) -> Result<bool, Error> {
        Ok(self.compiles(sabotage)? && self.outcome(sabotage)? == Outcome::Passed)
    }

    /// With the patch it can still be compiled, and fails.
    fn try_out(&self, sabotage: &Sabotage) -> Result<&'static str, Error> {
        self.patch(sabotage, &[])?;
        let told = match self.compiles(sabotage)? {
            false => Ok("cannot be compiled"),
            true => self.outcome(sabotage).map(|outcome| match outcome {
                Outcome::Passed => "NOT NOTICED",
                Outcome::Failed => NOTICED,
                Outcome::Hung => "its test hangs",
                Outcome::Crashed => "its test crashes",
            }),
        };
        self.patch(sabotage, &["--reverse"])?;
        told
    }

    fn patch(&self, sabotage: &Sabotage, how: &[&str]) -> Result<(), Error> {
        let mut git = Command::new("git");
        git.arg("apply").args(how).arg(&sabotage.path).current_dir(&self.tree);
        done(&mut git, "git apply")
    }

    fn compiles(&self, sabotage: &Sabotage) -> Result<bool, Error> {
        let mut cargo = match &sabotage.test {
            Test::Cargo { target, .. } => self.cargo("test", target, &["--no-run"]),
            Test::System { .. } => self.cargo("build", &[], &["--package", "buildyard"]),
        };
        let status = cargo.status().map_err(at(Path::new("cargo")))?;
        Ok(status.success())
    }

    fn outcome(&self, sabotage: &Sabotage) -> Result<Outcome, Error> {
        let log = self.tree.join("../said");
        let file = fs::File::create(&log).map_err(at(&log))?;
        let (out, err) = (file.try_clone().map_err(at(&log))?, file);
        let mut test = match &sabotage.test {
            Test::Cargo { target, name } => self.cargo("test", target, &["--", "--exact", name]),
            Test::System { id } => self.pytest(id),
        };
        let child = test.stdout(out).stderr(err).process_group(0).spawn();
        let program = PathBuf::from(test.get_program());
        let status = wait(child.map_err(at(&program))?).map_err(at(&program))?;
        let said = fs::read(&log).map_err(at(&log))?;
        Ok(Outcome::of(status.map(|status| status.success()), &String::from_utf8_lossy(&said)))
    }

    fn cargo(&self, command: &str, target: &[String], arguments: &[&str]) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([command, "--quiet"]).args(target).args(arguments).current_dir(&self.tree);
        cargo.env("CARGO_TARGET_DIR", &self.target);
        cargo
    }

    fn pytest(&self, id: &str) -> Command {
        let mut pytest = Command::new(crate::python());
        pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", id]).current_dir(&self.tree);
        pytest.env("BUILDYARD", self.target.join("debug/buildyard"));
        pytest
    }
}

/// What became of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    /// It came to its end, and to the result that something is wrong.
    Failed,
    Hung,
    /// It did not come to a result, or there is none of its name.
    Crashed,
}

impl Outcome {
    /// `is_success`: none if it was ended because it took too long. `said`: what cargo and the test wrote, in the words of any of our harnesses.
    fn of(is_success: Option<bool>, said: &str) -> Outcome {
        let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
        match is_success {
            None => Outcome::Hung,
            Some(true) if has(&["1 passed", " ... ok"]) => Outcome::Passed,
            Some(false) if has(&["1 failed", " ... FAILED"]) && !has(&["(signal: "]) => Outcome::Failed,
            Some(_) => Outcome::Crashed,
        }
    }
}

/// None: it did not end in time, and was ended.
fn wait(mut child: Child) -> io::Result<Option<ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() > PATIENCE {
            // The test itself is cargo's child, in the same group.
            Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn done(command: &mut Command, name: &str) -> Result<(), Error> {
    let status = command.status().map_err(at(Path::new(name)))?;
    if status.success() { Ok(()) } else { Err(Error::Check { command: name.to_owned(), status }) }
}

/// All files that are committed, or would be.
fn listed() -> Result<Vec<String>, Error> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(crate::root());
    let output = git.output().map_err(at(Path::new("git")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_patch_still_applies_and_says_what_it_breaks() {
        let all = all(&crate::root()).unwrap();
        assert!(all.len() >= 22, "{} sabotages", all.len());
        for Sabotage { name, path, breaks, .. } in all {
            assert!(!breaks.is_empty(), "{name}");
            let mut git = Command::new("git");
            git.args(["apply", "--check"]).arg(&path).current_dir(crate::root());
            assert!(git.status().unwrap().success(), "{name} applies no more");
        }
    }

    #[test]
    fn only_a_test_that_ends_with_a_result_has_noticed() {
        let libtest = "test result: FAILED. 0 passed; 1 failed; 0 ignored";
        for (is_success, said, outcome) in [
            (Some(true), "test result: ok. 1 passed; 0 failed", Outcome::Passed),
            (Some(true), "test no_history_breaks_a_promise ... ok", Outcome::Passed),
            (Some(false), libtest, Outcome::Failed),
            (Some(false), "0 passed, 1 failed", Outcome::Failed),
            (Some(true), "1 passed in 9.97s", Outcome::Passed),
            (Some(false), "1 failed in 10.12s", Outcome::Failed),
            (Some(false), "1 error in 61.20s", Outcome::Crashed),
            (Some(true), "1 skipped in 0.01s", Outcome::Crashed),
            (None, libtest, Outcome::Hung),
            (Some(true), "test result: ok. 0 passed; 0 failed", Outcome::Crashed),
            (Some(false), "error: could not compile `store`", Outcome::Crashed),
            (Some(false), "process didn't exit successfully: `store` (signal: 6, SIGABRT)", Outcome::Crashed),
        ] {
            assert_eq!(Outcome::of(is_success, said), outcome, "{said}");
        }
    }

    #[test]
    fn every_patch_names_a_test_that_there_is() {
        let files = crate::tree::text_files(&crate::root()).unwrap();
        for Sabotage { name, test, .. } in all(&crate::root()).unwrap() {
            let (below, function, quoted) = match &test {
                Test::Cargo { target, name } => {
                    let package = target.iter().skip_while(|word| *word != "-p").nth(1).unwrap();
                    let function = format!("fn {}(", name.rsplit("::").next().unwrap());
                    (format!("crates/{package}/"), function, format!("\"{name}\""))
                }
                Test::System { id } => {
                    let (file, function) = id.split_once("::").unwrap();
                    let function = format!("def {}(", function.split('[').next().unwrap());
                    (file.to_owned(), function.clone(), function)
                }
            };
            let has = |text: &str| text.contains(&function) || text.contains(&quoted);
            let found = files.iter().any(|file| file.path.starts_with(&below) && has(&file.text));
            assert!(found, "{name} names {test:?}, which {below} does not have");
        }
    }
}
