//! The kinds of findings, in one table: what programs call them, how bad they are, what they mean. Numbers are never given
//! again to something else; `docs/check.md` has an example and a mend for each.

use std::fmt;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A build with it does what it says, but hardly what is meant.
    Warning,
    /// A build with it fails.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

macro_rules! codes {
    ($($code:ident $id:literal $name:literal $severity:ident $summary:literal)*) => {
        /// Kinds of findings. `Display` gives the name, such as `unknown-phase`; it and the id never change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $summary] $code,)*
        }

        impl Code {
            /// All, in the order of their ids.
            pub const ALL: &[Code] = &[$(Code::$code,)*];

            /// The id, such as `BY007`.
            pub fn id(self) -> &'static str {
                match self { $(Code::$code => $id,)* }
            }

            /// The name, such as `unknown-phase`.
            pub fn name(self) -> &'static str {
                match self { $(Code::$code => $name,)* }
            }

            /// How bad such a finding is.
            pub fn severity(self) -> Severity {
                match self { $(Code::$code => Severity::$severity,)* }
            }

            /// What such a finding means, in one sentence.
            pub fn summary(self) -> &'static str {
                match self { $(Code::$code => $summary,)* }
            }
        }
    };
}

codes! {
    Syntax "BY001" "syntax" Error "The text is not YAML, or not text at all."
    Limit "BY002" "limit" Error "One of the limits on size, depth or number is crossed."
    Type "BY003" "type" Error "A value is of the wrong kind, such as a map where text is wanted."
    Value "BY004" "value" Error "A value is of the right kind and not one of those allowed."
    Missing "BY005" "missing-key" Error "A required key is absent."
    Version "BY006" "version" Error "The version is absent or not supported."
    UnknownPhase "BY007" "unknown-phase" Error "A phase has a name that CodeBuild does not know."
    CommandNotText "BY008" "command-not-text" Error "YAML reads a command as something else, mostly because of a colon."
    UnquotedGlob "BY009" "unquoted-glob" Error "A text begins with an asterisk and has no quotes: YAML takes it for an alias."
    Unsupported "BY010" "unsupported" Error "A feature that is not supported."
    Batch "BY011" "batch" Error "The builds of a batch contradict each other."

    UnknownKey "BY101" "unknown-key" Warning "A key that CodeBuild does not have, and that nothing reads."
    DuplicateKey "BY102" "duplicate-key" Warning "A key is given twice: the last one counts."
    Ignored "BY103" "ignored" Warning "A key or value that is accepted and has no effect."
    Deprecated "BY104" "deprecated" Warning "A key that has lost its meaning."
    NoPrimaryArtifact "BY105" "no-primary-artifact" Warning "Only secondary artifacts have files."
    MoreWarnings "BY106" "more-warnings" Warning "There are more warnings than are shown."

    LiteralVariable "BY201" "literal-variable" Warning "A value in env.variables looks as if it should be expanded, and is not."
    PlainSecret "BY202" "plain-secret" Warning "A credential stands in the buildspec."
    SecretName "BY203" "secret-name" Warning "A variable whose name promises a secret has its value in the buildspec."
    ReservedName "BY204" "reserved-name" Warning "A variable has a name that CodeBuild keeps for itself."
    UnusableName "BY205" "unusable-name" Warning "A variable has a name that shells cannot refer to."
    VariableTwice "BY206" "variable-twice" Warning "A variable is given in two ways, of which one wins."
    ExportedNeverSet "BY207" "exported-never-set" Warning "Nothing in the buildspec sets a variable that is exported."
    NotExported "BY208" "not-exported" Warning "A variable is listed for export and is never exported."

    NothingToDo "BY301" "nothing-to-do" Warning "There is no command to run."
    Unreachable "BY302" "unreachable" Warning "Commands follow that never run."
    ExitEndsCommand "BY303" "exit-ends-command" Warning "An exit is meant to end the phase and ends only its own command."
    LostState "BY304" "lost-state" Warning "In version 0.1 a command's directory and variables are gone with the next."
    Bashism "BY305" "bashism" Warning "A command needs bash, and the shell is sh."
    GetLogin "BY306" "get-login" Warning "The command aws ecr get-login is gone since version 2 of the AWS CLI."
    UnknownRuntime "BY307" "unknown-runtime" Warning "A runtime that no image of CodeBuild has."

    BareDirectory "BY401" "bare-directory" Warning "A pattern names a directory, which selects no file."
    NegatedGlob "BY402" "negated-glob" Warning "A pattern begins with an exclamation mark, which excludes nothing."
    OutsideGlob "BY403" "outside-glob" Warning "A pattern leads out of the directory that files are collected in."
}

impl Code {
    /// Whether a finding's text must not be shown, because it may be a secret.
    pub(crate) fn hides_text(self) -> bool {
        matches!(self, Code::PlainSecret | Code::SecretName)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
