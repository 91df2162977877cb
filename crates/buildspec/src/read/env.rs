//! `env`, in 0.1 also called `environment_variables`.

use super::Context;
use super::field::{Field, Section};
use crate::diagnostic::{Code, Error, excerpt, quoted};
use crate::model::{Env, Shell, Variables, Version};
use crate::secret::SecretReference;

pub(super) fn read(field: &Field<'_>, context: &mut Context) -> Result<Env, Error> {
    let section = Section::open(field, &known_keys(context.version), context)?;
    Ok(Env {
        shell: section.read("shell", shell)?,
        variables: section.read(variables_key(&section, context.version), literals)?.unwrap_or_default(),
        parameter_store: section.read("parameter-store", references)?.unwrap_or_default(),
        secrets_manager: section.read("secrets-manager", secrets)?.unwrap_or_default(),
        exported_variables: section.read("exported-variables", Field::texts)?.unwrap_or_default(),
        git_credential_helper: section.boolean("git-credential-helper")?,
    })
}

/// COMPAT: BS-021 0.1 calls the variables `plaintext`; 0.2 has warned about that name by now.
fn variables_key(section: &Section<'_>, version: Version) -> &'static str {
    if section.get("variables").is_some() || version == Version::V02 { "variables" } else { "plaintext" }
}

fn known_keys(version: Version) -> Vec<&'static str> {
    let mut known = vec![
        "shell",
        "variables",
        "parameter-store",
        "secrets-manager",
        "exported-variables",
        "git-credential-helper",
    ];
    if version == Version::V01 {
        known.push("plaintext");
    }
    known
}

fn shell(field: &Field<'_>) -> Result<Shell, Error> {
    let text = field.text()?;
    Shell::named(text.trim()).ok_or_else(|| {
        let message = format!("Invalid shell: {}. Expecting: {}", excerpt(&text), Shell::DOCUMENTED);
        field.invalid(Code::Value, message)
    })
}

/// COMPAT: BS-014, BS-042 values as spelled; one that is not there is the empty text.
fn literals(field: &Field<'_>) -> Result<Variables, Error> {
    field.entries()?.iter().map(|entry| Ok((variable_name(entry)?, entry.text_or_empty()?))).collect()
}

fn references(field: &Field<'_>) -> Result<Variables, Error> {
    field.entries()?.iter().map(|entry| Ok((variable_name(entry)?, entry.text()?))).collect()
}

fn secrets(field: &Field<'_>) -> Result<Vec<(String, SecretReference)>, Error> {
    field.entries()?.iter().map(|entry| Ok((variable_name(entry)?, secret(entry)?))).collect()
}

fn secret(field: &Field<'_>) -> Result<SecretReference, Error> {
    let text = field.text()?;
    SecretReference::parse(&text).ok_or_else(|| {
        field
            .invalid(
                Code::Value,
                format_args!("Invalid secret reference {} in {}", quoted(&text), field.shown()),
            )
            .hint("Write secret-id:json-key:version-stage:version-id; all but the first may be left out.")
    })
}

/// A name a process's environment can hold.
fn variable_name(field: &Field<'_>) -> Result<String, Error> {
    if field.name.is_empty() || field.name.contains('=') {
        let line = field.position.line;
        let message = format!("Invalid environment variable name {} at line {line}", quoted(field.name));
        return Err(field
            .position
            .finding(Code::Value, message)
            .hint("A name is not empty and has no \"=\"."));
    }
    Ok(field.name.to_owned())
}
