//! Reads a buildspec from its YAML tree, section by section, telling what is wrong and where.
//!
//! Rules of the whole: what CodeBuild is not known to refuse is let through with a warning (BS-012); a section
//! without content is an absent section; texts keep their spelling (BS-014).

mod env;
mod field;
mod outputs;
mod phases;

use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic, Error, Position, Warnings, excerpt, quoted};
use crate::limits;
use crate::model::{Buildspec, PhaseName, Proxy, Version};
use crate::yaml;
use field::{Field, Section};

/// A buildspec with what is worth saying about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The buildspec.
    pub buildspec: Buildspec,
    /// What does not stop a build, in the order of the text, at most [`limits::WARNINGS`].
    pub warnings: Vec<Diagnostic>,
}

/// Parses a buildspec's text.
///
/// # Errors
/// The first thing that CodeBuild would refuse, or a crossed limit. A build that gets one fails its
/// DOWNLOAD_SOURCE with status code `YAML_FILE_ERROR` and the error's message (BS-007).
pub fn parse(text: &str) -> Result<Parsed, Error> {
    check_size(text.len())?;
    let mut warnings = Warnings::default();
    let root = yaml::load(text, &mut warnings)?;
    let Some(root) = root.as_deref().filter(|root| !root.is_null()) else {
        return Err(missing_version("The buildspec is empty."));
    };
    let root = Field::root(root);
    let mut context = Context { version: version(&root)?, warnings };
    let buildspec = buildspec(&root, &mut context)?;
    Ok(Parsed { buildspec, warnings: context.warnings.into_vec() })
}

/// Parses a buildspec file: UTF-8 or, with a byte order mark, UTF-16.
///
/// # Errors
/// Those of [`parse`], and [`Code::Syntax`] for bytes that are no text.
pub fn parse_bytes(bytes: &[u8]) -> Result<Parsed, Error> {
    check_size(bytes.len())?;
    match bytes {
        [0xff, 0xfe, rest @ ..] => parse(&utf16(rest, u16::from_le_bytes)?),
        [0xfe, 0xff, rest @ ..] => parse(&utf16(rest, u16::from_be_bytes)?),
        _ => parse(std::str::from_utf8(bytes).map_err(|error| not_text(bytes, error.valid_up_to()))?),
    }
}

fn check_size(bytes: usize) -> Result<(), Error> {
    if bytes <= limits::TEXT_BYTES {
        return Ok(());
    }
    let message = format!("buildspec is larger than {} bytes: it has {bytes}", limits::TEXT_BYTES);
    Err(Position::START.finding(Code::Limit, message).hint("Move long scripts to files of the source."))
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, Error> {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    let text: Result<String, _> = char::decode_utf16(units).collect();
    text.map_err(|_| Position::START.finding(Code::Syntax, "incomplete UTF-16 surrogate pair"))
}

fn not_text(bytes: &[u8], valid: usize) -> Error {
    let before = std::str::from_utf8(&bytes[..valid]).expect("valid up to the first bad byte");
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let position =
        Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 };
    position
        .finding(Code::Syntax, format!("invalid leading UTF-8 octet at line {}", position.line))
        .hint("Save the buildspec as UTF-8.")
}

/// What every section's reader needs to know and may add to.
struct Context {
    version: Version,
    warnings: Warnings,
}

fn buildspec(root: &Field<'_>, context: &mut Context) -> Result<Buildspec, Error> {
    let version = context.version;
    let section = Section::open(root, &known_keys(version), context)?;
    // COMPAT: BS-021 0.1 calls `env` by another name; 0.2 has warned about that name by now.
    let env =
        if section.get("env").is_some() || version == Version::V02 { "env" } else { "environment_variables" };
    Ok(Buildspec {
        version,
        run_as: section.text("run-as")?,
        env: section.read(env, |field| env::read(field, context))?.unwrap_or_default(),
        proxy: section.read("proxy", |field| proxy(field, context))?.unwrap_or_default(),
        phases: section.read("phases", |field| phases::read(field, context))?.unwrap_or_default(),
        reports: section.read("reports", |field| outputs::reports(field, context))?.unwrap_or_default(),
        artifacts: section.read("artifacts", |field| outputs::artifacts(field, context))?,
        cache: section.read("cache", |field| outputs::cache(field, context))?,
        batch: section.get("batch").map(|field| Arc::new(field.node.clone())),
    })
}

fn known_keys(version: Version) -> Vec<&'static str> {
    let mut known =
        vec!["version", "run-as", "env", "proxy", "batch", "phases", "reports", "artifacts", "cache"];
    if version == Version::V01 {
        known.push("environment_variables");
    }
    known
}

/// COMPAT: BS-010 `0.1` or `0.2`, number or string. Read first: it decides what the other keys mean.
fn version(root: &Field<'_>) -> Result<Version, Error> {
    let entries = root.entries()?;
    let Some(field) = entries.iter().find(|field| field.name == "version" && !field.node.is_null()) else {
        return Err(missing_version("Begin the buildspec with \"version: 0.2\"."));
    };
    let text = field.text()?;
    Version::named(text.trim()).ok_or_else(|| {
        let message = format!(
            "Invalid buildspec version: {}. Expecting: {},{} at line {}",
            excerpt(&text),
            Version::V01,
            Version::V02,
            field.node.position.line
        );
        field.node.position.finding(Code::Version, message).hint("Write \"version: 0.2\".")
    })
}

fn missing_version(hint: &str) -> Error {
    let message = format!("Missing buildspec version. Expecting: {},{}", Version::V01, Version::V02);
    Position::START.finding(Code::Version, message).hint(hint)
}

fn proxy(field: &Field<'_>, context: &mut Context) -> Result<Proxy, Error> {
    let section = Section::open(field, &["upload-artifacts", "logs"], context)?;
    Ok(Proxy { upload_artifacts: section.boolean("upload-artifacts")?, logs: section.boolean("logs")? })
}

/// What to say about a key nothing reads.
fn unknown_key(field: &Field<'_>, known: &[&str], version: Version) -> Diagnostic {
    let line = field.position.line;
    let place = match field.parent() {
        "" => "at the top level".to_owned(),
        parent => format!("in {parent}"),
    };
    let message = format!("Unknown key {} {place} has no effect at line {line}", quoted(field.name));
    let finding = field.position.finding(Code::UnknownKey, message);
    if let Some(renamed) = renamed(field.name, known, version) {
        return finding.hint(format!("In version {version} it is called {renamed}."));
    }
    if field.parent().is_empty() && PhaseName::named(field.name).is_some() {
        return finding.hint(format!("Indent {} to put it under phases.", field.name));
    }
    match crate::suggest::nearest(field.name, known) {
        Some(known) => finding.hint(format!("Did you mean {known}?")),
        None => finding,
    }
}

/// COMPAT: BS-021 names of 0.1 that have others in 0.2.
fn renamed<'a>(name: &str, known: &[&'a str], version: Version) -> Option<&'a str> {
    let renamed = match name {
        "environment_variables" => "env",
        "plaintext" => "variables",
        _ => return None,
    };
    (version == Version::V02).then(|| known.iter().copied().find(|&known| known == renamed)).flatten()
}
