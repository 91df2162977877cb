//! `buildyard check`: reads buildspecs and prints what `buildspec::check` finds. What there is to find is not decided here.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use buildspec::render::{self, CheckedFile};
use buildspec::{Code, Origin, Severity};

use crate::screen::Screen;

/// Reading stops at one byte more than a buildspec may have, which is enough to see that it has too many.
const READ_BYTES: u64 = buildspec::limits::TEXT_BYTES as u64 + 1;

/// The name of what comes on standard input.
const STDIN: &str = "stdin";

/// The exit code for anything but findings.
const USAGE: u8 = 2;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Buildspecs: files, folders with a buildspec.yml, or - for standard input.
    #[arg(default_value = Origin::DEFAULT_FILE)]
    paths: Vec<PathBuf>,
    /// How findings are printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Warnings are errors.
    #[arg(long)]
    strict: bool,
    /// Leave out warnings of this kind, by code or name (repeatable).
    #[arg(long, value_name = "CODE", value_parser = code)]
    allow: Vec<Code>,
    /// Print what would run; findings go to standard error.
    #[arg(long, conflicts_with = "format")]
    plan: bool,
    /// Print the JSON Schema of buildspecs, for editors.
    #[arg(long, conflicts_with_all = ["plan", "format", "strict"])]
    schema: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Paragraphs for people.
    Human,
    /// One object for programs.
    Json,
    /// SARIF 2.1.0 for code scanning.
    Sarif,
    /// Annotations for GitHub Actions.
    Github,
}

fn code(text: &str) -> Result<Code, String> {
    let known = Code::ALL.iter().find(|code| code.id().eq_ignore_ascii_case(text) || code.name() == text);
    known.copied().ok_or_else(|| "no finding has this code; docs/check.md lists them".to_owned())
}

pub(crate) fn check(arguments: &Arguments) -> ExitCode {
    match checked(arguments) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("buildyard: {message}");
            ExitCode::from(USAGE)
        }
    }
}

fn checked(arguments: &Arguments) -> Result<ExitCode, String> {
    if arguments.schema {
        print(&buildspec::json_schema())?;
        return Ok(ExitCode::SUCCESS);
    }
    let files =
        arguments.paths.iter().map(|path| read(path, &arguments.allow)).collect::<Result<Vec<_>, _>>()?;
    match arguments.format {
        Format::Human if arguments.plan => {
            print(
                &files
                    .iter()
                    .filter_map(|(_, checked)| checked.buildspec.as_ref())
                    .map(buildspec::plan)
                    .collect::<String>(),
            )?;
            eprint!("{}", human(&files, Screen::stderr().is_coloured()));
        }
        Format::Human => print(&human(&files, Screen::stdout().is_coloured()))?,
        Format::Json => print(&render::json(&files))?,
        Format::Sarif => print(&render::sarif(&files, env!("CARGO_PKG_VERSION")))?,
        Format::Github => print(&render::github(&files))?,
    }
    let bad =
        count(&files, Severity::Error) > 0 || (arguments.strict && count(&files, Severity::Warning) > 0);
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What is printed matters: a full disk or a closed pipe is no clean buildspec.
fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| format!("standard output: {error}"))
}

fn read(path: &Path, allowed: &[Code]) -> Result<CheckedFile, String> {
    let (name, bytes) = bytes(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((name, buildspec::check(&bytes, allowed)))
}

fn bytes(path: &Path) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().take(READ_BYTES).read_to_end(&mut bytes)?;
        return Ok((STDIN.to_owned(), bytes));
    }
    let path = if path.is_dir() { path.join(Origin::DEFAULT_FILE) } else { path.to_owned() };
    File::open(&path)?.take(READ_BYTES).read_to_end(&mut bytes)?;
    Ok((path.to_string_lossy().into_owned(), bytes))
}

fn human(files: &[CheckedFile], colours: bool) -> String {
    let findings: String =
        files.iter().map(|(file, checked)| render::human(file, checked, colours)).collect();
    let (errors, warnings) = (count(files, Severity::Error), count(files, Severity::Warning));
    findings + &format!("{}, {}\n", counted(errors, "error"), counted(warnings, "warning"))
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn count(files: &[CheckedFile], severity: Severity) -> usize {
    files.iter().map(|(_, checked)| checked.count(severity)).sum()
}
