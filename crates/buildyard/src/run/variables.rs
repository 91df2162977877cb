//! The variables that a user gives a local build: `-e` and `--env-file`.

use std::collections::BTreeMap;

use super::Arguments;

pub(super) fn given(arguments: &Arguments) -> Result<BTreeMap<String, String>, String> {
    let mut variables = BTreeMap::new();
    for file in &arguments.env_file {
        let text =
            std::fs::read_to_string(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = || format!("{} line {}", file.display(), number + 1);
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, value) =
                line.split_once('=').ok_or_else(|| format!("{}: `{line}` is not KEY=VALUE", at()))?;
            variables.insert(
                variable_name(name).map_err(|e| format!("{}: {e}", at()))?,
                unquoted(value).to_owned(),
            );
        }
    }
    for given in &arguments.env {
        let (name, value) = match given.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (
                given.as_str(),
                std::env::var(given).map_err(|_| {
                    format!("-e {given}: the environment has no such variable; write -e {given}=VALUE")
                })?,
            ),
        };
        variables.insert(variable_name(name).map_err(|e| format!("-e {given}: {e}"))?, value);
    }
    Ok(variables)
}

fn variable_name(name: &str) -> Result<String, String> {
    match name.is_empty() || name.contains(['\0', ' ']) {
        true => Err(format!("`{name}` is not a variable name")),
        false => Ok(name.to_owned()),
    }
}

/// The value without one pair of quotes around it.
fn unquoted(value: &str) -> &str {
    let pair = |quote: char| value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote));
    pair('"').or_else(|| pair('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pair_of_quotes_is_taken_off() {
        for (value, expect) in [("\"a b\"", "a b"), ("'a'", "a"), ("a\"b", "a\"b"), ("\"a'", "\"a'")] {
            assert_eq!(unquoted(value), expect);
        }
    }
}
