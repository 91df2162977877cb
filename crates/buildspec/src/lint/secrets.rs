//! Secrets in plain text: credentials by their looks anywhere, and values of variables whose names promise one. No message
//! repeats a secret, and whoever shows the text hides it (see `render`).

use std::sync::LazyLock;

use regex::Regex;

use super::{Document, scalar, variables};
use crate::diagnostic::{Code, Findings, quoted};
use crate::yaml::{Node, Value};

struct Credential {
    what: &'static str,
    looks: &'static str,
}

const CREDENTIALS: &[Credential] = &[
    Credential { what: "An AWS access key id", looks: r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b" },
    Credential { what: "A private key", looks: r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----" },
    Credential {
        what: "A GitHub token",
        looks: r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})",
    },
    Credential { what: "A GitLab token", looks: r"\bglpat-[A-Za-z0-9_-]{20,}" },
    Credential { what: "A Slack token", looks: r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}" },
    Credential { what: "A Slack webhook", looks: r"https://hooks\.slack\.com/services/T[A-Za-z0-9_/]{20,}" },
    Credential { what: "An npm token", looks: r"\bnpm_[A-Za-z0-9]{36}\b" },
    Credential { what: "A package index token", looks: r"\bpypi-[A-Za-z0-9_-]{50,}" },
    Credential { what: "A Google API key", looks: r"\bAIza[A-Za-z0-9_-]{35}\b" },
    Credential { what: "A Stripe key", looks: r"\b[rs]k_live_[A-Za-z0-9]{20,}" },
    Credential { what: "A SendGrid key", looks: r"\bSG\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}" },
    Credential {
        what: "A signed token",
        looks: r"\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{15,}",
    },
    Credential {
        what: "A URL with a password",
        looks: r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@$'\x22]{1,64}:[^\s/:@$'\x22{<*]{3,128}@",
    },
];

static LOOKS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    CREDENTIALS.iter().map(|credential| Regex::new(credential.looks).expect("an expression")).collect()
});

/// Names of variables that hold secrets: as a whole word between underscores.
static SECRET_NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(^|_)(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIALS?)(_?(KEY|VALUE))?$")
        .expect("an expression")
});

/// What the documentation of many a service uses where a secret would stand.
const EXAMPLE: &str = "EXAMPLE";

const MEND: &str = "Keep it in Secrets Manager or Parameter Store and refer to it in env.secrets-manager or env.parameter-store.";

pub(super) fn check(document: &Document<'_>, findings: &mut Findings) {
    check_values(document, findings);
    for (kind, field) in variables::variables(document) {
        let Some(value) = scalar(&field) else { continue };
        if matches!(kind, "variables" | "plaintext") && SECRET_NAME.is_match(field.name) && is_literal(value)
        {
            let message = format!(
                "Variable {} looks like a secret, and anybody who sees the buildspec sees it",
                quoted(field.name)
            );
            findings.warn(|| field.node.span.finding(Code::SecretName, message).hint(MEND));
        }
    }
}

/// Whether the variable's name promises a secret and its value could be one.
pub(crate) fn is_named(name: &str, value: &str) -> bool {
    SECRET_NAME.is_match(name) && is_literal(value)
}

/// The text with what looks like a credential replaced by `***`.
pub(crate) fn hidden(text: &str) -> String {
    LOOKS.iter().fold(text.to_owned(), |text, looks| looks.replace_all(&text, "***").into_owned())
}

/// Whether the value could be the secret itself: not where to find one, not a switch, not a placeholder.
fn is_literal(value: &str) -> bool {
    let elsewhere = ["$", "arn:", "/", "{{", "<", "http://", "https://"];
    let value = value.trim();
    value.len() >= 4
        && !["true", "false", "none", "null"].contains(&value)
        && !elsewhere.iter().any(|prefix| value.starts_with(prefix))
}

/// Looks at every text of the document, each once, without following it down the stack.
fn check_values(document: &Document<'_>, findings: &mut Findings) {
    let mut nodes: Vec<&Node> = vec![document.root.node];
    while let Some(node) = nodes.pop() {
        match &node.value {
            Value::Scalar { text, .. } => check_text(document, node, text, findings),
            Value::List(items) => nodes.extend(items.iter().map(|item| &**item)),
            Value::Map(entries) => nodes.extend(entries.iter().map(|entry| &*entry.node)),
        }
    }
}

fn check_text(document: &Document<'_>, node: &Node, text: &str, findings: &mut Findings) {
    for (credential, looks) in CREDENTIALS.iter().zip(LOOKS.iter()) {
        let Some(found) = looks.find(text).filter(|found| !found.as_str().ends_with(EXAMPLE)) else {
            continue;
        };
        findings.warn(|| {
            let message = format!("{} stands in the buildspec in plain text", credential.what);
            document.within(node, found.as_str(), Code::PlainSecret, message).hint(MEND)
        });
    }
}
