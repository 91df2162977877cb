//! `env`, in 0.1 also called `environment_variables`.

use super::Context;
use super::field::{Field, Section};
use crate::diagnostic::{Code, Error, excerpt, quoted};
use crate::model::{Env, Shell, Variables, Version};
use crate::schema;
use crate::secret::SecretReference;

pub(super) fn read(field: &Field<'_>, context: &mut Context) -> Env {
    let section = Section::open(field, &schema::ENV, context);
    let variables = variables_key(&section, context.version);
    Env {
        shell: section.read("shell", context, shell),
        variables: section.open_in(variables, context, literals).unwrap_or_default(),
        parameter_store: section.open_in("parameter-store", context, references).unwrap_or_default(),
        secrets_manager: section.open_in("secrets-manager", context, secrets).unwrap_or_default(),
        exported_variables: section.texts("exported-variables", context),
        git_credential_helper: section.boolean("git-credential-helper", context),
    }
}

/// COMPAT: BS-021 0.1 calls the variables `plaintext`; 0.2 has warned about that name by now.
fn variables_key(section: &Section<'_>, version: Version) -> &'static str {
    if section.get("variables").is_some() || version == Version::V02 { "variables" } else { "plaintext" }
}

fn shell(field: &Field<'_>) -> Result<Shell, Error> {
    let text = field.text()?;
    Shell::named(text.trim()).ok_or_else(|| {
        let message = format!("Invalid shell: {}. Expecting: {}", excerpt(&text), Shell::DOCUMENTED);
        field.invalid(Code::Value, message)
    })
}

/// COMPAT: BS-014, BS-042 values as spelled; one that is not there is the empty text.
pub(super) fn literals(field: &Field<'_>, context: &mut Context) -> Variables {
    context.each_entry(field, |entry| Ok((variable_name(entry)?, entry.text_or_empty()?)))
}

fn references(field: &Field<'_>, context: &mut Context) -> Variables {
    context.each_entry(field, |entry| Ok((variable_name(entry)?, entry.text()?)))
}

fn secrets(field: &Field<'_>, context: &mut Context) -> Vec<(String, SecretReference)> {
    context.each_entry(field, |entry| Ok((variable_name(entry)?, secret(entry)?)))
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
pub(super) fn variable_name(field: &Field<'_>) -> Result<String, Error> {
    if field.name.is_empty() || field.name.contains('=') {
        let message = format!("Invalid environment variable name {}", quoted(field.name));
        return Err(field.misnamed(Code::Value, message).hint("A name is not empty and has no \"=\"."));
    }
    Ok(field.name.to_owned())
}
