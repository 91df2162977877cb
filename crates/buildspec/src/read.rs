//! Reads a buildspec from its YAML tree, section by section, telling what is wrong and where.
//!
//! Rules of the whole: what CodeBuild is not known to refuse is let through with a warning (BS-012); a section
//! without content is an absent section; texts keep their spelling (BS-014). A value that is refused is a finding and the
//! reading goes on, so that all of them are told at once; a build ends with the first.

mod batch;
mod env;
mod field;
mod outputs;
mod phases;

use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic, Error, Findings, Position, Span, excerpt, quoted};
use crate::limits;
use crate::model::{Buildspec, PhaseName, Proxy, Version};
use crate::schema::{self, Table};
use crate::yaml::{self, Node};
pub(crate) use field::Field;
use field::Section;

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
    let mut reading = read(text)?;
    match reading.errors.is_empty() {
        true => Ok(Parsed { buildspec: reading.buildspec, warnings: reading.warnings }),
        false => Err(reading.errors.swap_remove(0)),
    }
}

/// Parses a buildspec file: UTF-8 or, with a byte order mark, UTF-16.
///
/// # Errors
/// Those of [`parse`], and [`Code::Syntax`] for bytes that are no text.
pub fn parse_bytes(bytes: &[u8]) -> Result<Parsed, Error> {
    parse(&decode(bytes)?)
}

/// All there is to know from one reading.
pub(crate) struct Reading {
    /// Where something was refused, as if it were not there.
    pub(crate) buildspec: Buildspec,
    pub(crate) root: Arc<Node>,
    /// In the order found.
    pub(crate) errors: Vec<Error>,
    /// What is wrong with the batch section, which a single build does not look at.
    pub(crate) batch_errors: Vec<Error>,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// # Errors
/// What nothing can be read behind: no YAML, no version, too much of everything.
pub(crate) fn read(text: &str) -> Result<Reading, Error> {
    check_size(text.len())?;
    let mut findings = Findings::default();
    let root = yaml::load(text, &mut findings)?;
    let Some(root) = root.filter(|root| !root.is_null()) else {
        return Err(missing_version("The buildspec is empty."));
    };
    let field = Field::root(&root);
    let mut context = Context { version: version(&field)?, findings, batch_errors: Vec::new() };
    let buildspec = buildspec(&field, &mut context);
    let errors = context.findings.take_errors();
    let warnings = context.findings.into_warnings();
    Ok(Reading { buildspec, root, errors, batch_errors: context.batch_errors, warnings })
}

/// # Errors
/// [`Code::Limit`] for too many bytes, [`Code::Syntax`] for bytes that are no text.
pub(crate) fn decode(bytes: &[u8]) -> Result<String, Error> {
    check_size(bytes.len())?;
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(not_text(bytes, error.valid_up_to())),
        },
    }
}

fn check_size(bytes: usize) -> Result<(), Error> {
    if bytes <= limits::TEXT_BYTES {
        return Ok(());
    }
    let message = format!("buildspec is larger than {} bytes: it has {bytes}", limits::TEXT_BYTES);
    Err(Span::START.finding(Code::Limit, message).hint("Move long scripts to files of the source."))
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, Error> {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    let text: Result<String, _> = char::decode_utf16(units).collect();
    text.map_err(|_| Span::START.finding(Code::Syntax, "incomplete UTF-16 surrogate pair"))
}

fn not_text(bytes: &[u8], valid: usize) -> Error {
    let before = std::str::from_utf8(&bytes[..valid]).expect("valid up to the first bad byte");
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let (line, column) = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
    Span::from(Position { line, column })
        .finding(Code::Syntax, format!("invalid leading UTF-8 octet at line {line}"))
        .hint("Save the buildspec as UTF-8.")
}

/// What every section's reader needs to know and may add to.
struct Context {
    version: Version,
    findings: Findings,
    batch_errors: Vec<Error>,
}

impl Context {
    /// The field's entries; if it is no map, a finding.
    fn entries<'a>(&mut self, field: &Field<'a>) -> Vec<Field<'a>> {
        let entries = self.findings.keep(field.entries()).unwrap_or_default();
        let (bad, good): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.name.contains('\0'));
        for entry in bad {
            let message = format!("Key {} has a NUL character", quoted(entry.name));
            self.findings.refuse(entry.misnamed(Code::Value, message));
        }
        good
    }

    /// The field's items; if it is no list, a finding.
    fn items<'a>(&mut self, field: &Field<'a>) -> Vec<Field<'a>> {
        self.findings.keep(field.items()).unwrap_or_default()
    }

    /// What `read` makes of each item.
    fn each<'a, T>(&mut self, field: &Field<'a>, read: impl Fn(&Field<'a>) -> Result<T, Error>) -> Vec<T> {
        self.items(field).iter().filter_map(|item| self.findings.keep(read(item))).collect()
    }

    /// What `read` makes of each entry.
    fn each_entry<'a, T>(
        &mut self,
        field: &Field<'a>,
        read: impl Fn(&Field<'a>) -> Result<T, Error>,
    ) -> Vec<T> {
        self.entries(field).iter().filter_map(|entry| self.findings.keep(read(entry))).collect()
    }
}

fn buildspec(root: &Field<'_>, context: &mut Context) -> Buildspec {
    let version = context.version;
    let section = Section::open(root, &schema::BUILDSPEC, context);
    // COMPAT: BS-021 0.1 calls `env` by another name; 0.2 has warned about that name by now.
    let env =
        if section.get("env").is_some() || version == Version::V02 { "env" } else { "environment_variables" };
    Buildspec {
        version,
        run_as: section.text("run-as", context),
        env: section.open_in(env, context, env::read).unwrap_or_default(),
        proxy: section.open_in("proxy", context, proxy).unwrap_or_default(),
        phases: section.open_in("phases", context, phases::read).unwrap_or_default(),
        reports: section.open_in("reports", context, outputs::reports).unwrap_or_default(),
        artifacts: section.open_in("artifacts", context, outputs::artifacts),
        cache: section.open_in("cache", context, outputs::cache),
        batch: section.open_in("batch", context, batch::read),
    }
}

/// COMPAT: BS-010 `0.1` or `0.2`, number or string. Read first: it decides what the other keys mean.
fn version(root: &Field<'_>) -> Result<Version, Error> {
    let entries = root.entries()?;
    let Some(field) = entries.iter().find(|field| field.name == "version" && !field.node.is_null()) else {
        return Err(missing_version("Begin the buildspec with \"version: 0.2\"."));
    };
    let text = field.text()?;
    Version::named(text.trim()).ok_or_else(|| {
        let (oldest, newest) = (Version::V01, Version::V02);
        let message = format!("Invalid buildspec version: {}. Expecting: {oldest},{newest}", excerpt(&text));
        field.invalid(Code::Version, message).hint("Write \"version: 0.2\".")
    })
}

fn missing_version(hint: &str) -> Error {
    let message = format!("Missing buildspec version. Expecting: {},{}", Version::V01, Version::V02);
    Span::START.finding(Code::Version, message).hint(hint)
}

fn proxy(field: &Field<'_>, context: &mut Context) -> Proxy {
    let section = Section::open(field, &schema::PROXY, context);
    Proxy {
        upload_artifacts: section.boolean("upload-artifacts", context),
        logs: section.boolean("logs", context),
    }
}

/// What to say about a key nothing reads.
fn unknown_key(field: &Field<'_>, table: &Table, version: Version) -> Diagnostic {
    let place = match field.parent() {
        "" => "at the top level".to_owned(),
        parent => format!("in {parent}"),
    };
    let message = format!("Unknown key {} {place} has no effect", quoted(field.name));
    let finding = field.misnamed(Code::UnknownKey, message);
    match guess(field, table, version) {
        Some(guess) => finding.hint(guess),
        None => finding,
    }
}

fn guess(field: &Field<'_>, table: &Table, version: Version) -> Option<String> {
    if let Some(renamed) = renamed(field.name, version).filter(|renamed| table.key(renamed).is_some()) {
        return Some(format!("In version {version} it is called {renamed}."));
    }
    if field.parent().is_empty() && PhaseName::named(field.name).is_some() {
        return Some(format!("Indent {} to put it under phases.", field.name));
    }
    if let Some(known) = crate::suggest::nearest(field.name, &table.names(version)) {
        return Some(format!("Did you mean {known}?"));
    }
    if schema::BUILDSPEC.key(field.name).is_some_and(|key| key.is_of(version)) && !field.parent().is_empty() {
        return Some(format!("{} belongs to the top level.", field.name));
    }
    match &Table::places_of(field.name, version)[..] {
        [] => None,
        [only] => Some(format!("{} belongs in {only}.", field.name)),
        [first, ..] => Some(format!("{} belongs in {first} and the like.", field.name)),
    }
}

/// COMPAT: BS-021 names of 0.1 that have others in 0.2.
fn renamed(name: &str, version: Version) -> Option<&'static str> {
    match (name, version) {
        ("environment_variables", Version::V02) => Some("env"),
        ("plaintext", Version::V02) => Some("variables"),
        _ => None,
    }
}
