//! Conditions: an operator, a key, and the values it is compared with.

use crate::context::{Context, is_known_key};
use crate::date;
use crate::error::{Error, Result};
use crate::network::Network;
use crate::pattern::{ArnPattern, Dialect, Pattern};
use crate::policy::Effect;

/// One line of a `Condition` element. All lines must hold.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    key: String,
    operator: Operator,
    values: Vec<Wanted>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Operator {
    over: Over,
    /// What a key that is not there comes to: that the condition holds.
    if_exists: bool,
    negated: bool,
    kind: Kind,
}

/// Which of a key's values must satisfy the condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// No quantifier: a key is thought to have one value.
    One,
    All,
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text { like: bool, case_counts: bool },
    Arn,
    Number(Relation),
    Date(Relation),
    Bool,
    Address,
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A value of the policy, read.
#[derive(Debug, Clone, PartialEq)]
enum Wanted {
    Text { pattern: Pattern, case_counts: bool },
    Arn(ArnPattern),
    Number(Relation, f64),
    Date(Relation, i64),
    Bool(bool),
    Address(Network),
}

/// Operators without quantifier and `IfExists`: name, what it compares, and whether it says no.
#[rustfmt::skip]
const OPERATORS: [(&str, Kind, bool); 27] = [
    ("StringEquals", Kind::Text { like: false, case_counts: true }, false),
    ("StringNotEquals", Kind::Text { like: false, case_counts: true }, true),
    ("StringEqualsIgnoreCase", Kind::Text { like: false, case_counts: false }, false),
    ("StringNotEqualsIgnoreCase", Kind::Text { like: false, case_counts: false }, true),
    ("StringLike", Kind::Text { like: true, case_counts: true }, false),
    ("StringNotLike", Kind::Text { like: true, case_counts: true }, true),
    ("ArnEquals", Kind::Arn, false),
    ("ArnNotEquals", Kind::Arn, true),
    ("ArnLike", Kind::Arn, false),
    ("ArnNotLike", Kind::Arn, true),
    ("NumericEquals", Kind::Number(Relation::Equal), false),
    ("NumericNotEquals", Kind::Number(Relation::Equal), true),
    ("NumericLessThan", Kind::Number(Relation::Less), false),
    ("NumericLessThanEquals", Kind::Number(Relation::LessOrEqual), false),
    ("NumericGreaterThan", Kind::Number(Relation::Greater), false),
    ("NumericGreaterThanEquals", Kind::Number(Relation::GreaterOrEqual), false),
    ("DateEquals", Kind::Date(Relation::Equal), false),
    ("DateNotEquals", Kind::Date(Relation::Equal), true),
    ("DateLessThan", Kind::Date(Relation::Less), false),
    ("DateLessThanEquals", Kind::Date(Relation::LessOrEqual), false),
    ("DateGreaterThan", Kind::Date(Relation::Greater), false),
    ("DateGreaterThanEquals", Kind::Date(Relation::GreaterOrEqual), false),
    ("Bool", Kind::Bool, false),
    ("BoolNotEquals", Kind::Bool, true),
    ("IpAddress", Kind::Address, false),
    ("NotIpAddress", Kind::Address, true),
    ("Null", Kind::Null, false),
];

impl Operator {
    fn parse(name: &str) -> Option<Operator> {
        let (over, rest) = match name.split_once(':') {
            Some(("ForAllValues", rest)) => (Over::All, rest),
            Some(("ForAnyValue", rest)) => (Over::Any, rest),
            Some(_) => return None,
            None => (Over::One, name),
        };
        let (rest, if_exists) = match rest.strip_suffix("IfExists") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let (_, kind, negated) = OPERATORS.iter().find(|(name, ..)| *name == rest)?;
        let plain = over == Over::One && !if_exists;
        (*kind != Kind::Null || plain).then_some(Operator { over, if_exists, negated: *negated, kind: *kind })
    }
}

impl Condition {
    /// `values` are texts, or numbers and truth values as JSON writes them.
    pub(crate) fn parse(
        operator: &str,
        key: &str,
        values: &[String],
        variables: bool,
        place: &str,
    ) -> Result<Condition> {
        let operator = Operator::parse(operator).ok_or_else(|| Error::unknown(place, operator))?;
        if !is_known_key(key) {
            return Err(Error::unknown(place, key));
        }
        let values = values.iter().map(|value| Wanted::parse(operator.kind, value, variables, place));
        Ok(Condition { key: key.to_owned(), operator, values: values.collect::<Result<_>>()? })
    }

    /// Whether it holds in a statement of this effect: of a tag with several values all must satisfy what allows, and one is
    /// enough for what denies.
    pub(crate) fn holds(&self, context: &Context, effect: Effect) -> bool {
        let Operator { mut over, if_exists, negated, kind } = self.operator;
        if self.values.iter().any(|wanted| wanted.is_ambiguous(context)) {
            return effect == Effect::Deny;
        }
        if context.is_ambiguous(&self.key) {
            over = if effect == Effect::Deny { Over::Any } else { Over::All };
        }
        let found = context.get(&self.key);
        if kind == Kind::Null {
            return self.values.iter().any(|wanted| *wanted == Wanted::Bool(found.is_none()));
        }
        let Some(found) = found else {
            return match over {
                Over::One => negated || if_exists,
                Over::All => true,
                Over::Any => if_exists,
            };
        };
        let mut each =
            found.iter().map(|value| self.values.iter().any(|one| one.is(value, context)) != negated);
        match over {
            Over::All => each.all(|holds| holds),
            Over::Any => each.any(|holds| holds),
            // Of several values none may be what a negated condition names.
            Over::One if negated => each.all(|holds| holds),
            Over::One => each.any(|holds| holds),
        }
    }
}

impl Wanted {
    fn parse(kind: Kind, text: &str, variables: bool, place: &str) -> Result<Wanted> {
        let wrong = |rule| Error::wrong(place, text, rule);
        Ok(match kind {
            Kind::Text { like, case_counts } => {
                let pattern = Pattern::parse(text, Dialect { wildcards: like, variables }, place)?;
                Wanted::Text { pattern, case_counts }
            }
            Kind::Arn => Wanted::Arn(ArnPattern::parse(text, variables, place)?),
            Kind::Number(relation) => {
                Wanted::Number(relation, number(text).ok_or_else(|| wrong("is no number"))?)
            }
            Kind::Date(relation) => {
                let rule = "is neither a time of ISO 8601 nor seconds since 1970";
                Wanted::Date(relation, date::parse(text).ok_or_else(|| wrong(rule))?)
            }
            Kind::Bool | Kind::Null => {
                Wanted::Bool(truth(text).ok_or_else(|| wrong("is neither true nor false"))?)
            }
            Kind::Address => {
                let rule = "is neither an IP address nor a range such as 203.0.113.0/24";
                Wanted::Address(Network::parse(text).ok_or_else(|| wrong(rule))?)
            }
        })
    }

    fn is_ambiguous(&self, context: &Context) -> bool {
        match self {
            Wanted::Text { pattern, .. } => pattern.is_ambiguous(context),
            Wanted::Arn(pattern) => pattern.is_ambiguous(context),
            _ => false,
        }
    }

    fn is(&self, value: &str, context: &Context) -> bool {
        match self {
            Wanted::Text { pattern, case_counts: true } => pattern.matches(value, context),
            Wanted::Text { pattern, case_counts: false } => pattern.matches_ignoring_case(value, context),
            Wanted::Arn(pattern) => pattern.matches(value, context),
            Wanted::Number(relation, wanted) => {
                number(value).is_some_and(|value| relation.holds(&value, wanted))
            }
            Wanted::Date(relation, wanted) => {
                date::parse(value).is_some_and(|value| relation.holds(&value, wanted))
            }
            Wanted::Bool(wanted) => truth(value) == Some(*wanted),
            Wanted::Address(network) => network.contains(value),
        }
    }
}

impl Relation {
    fn holds<T: PartialOrd>(self, value: &T, wanted: &T) -> bool {
        match self {
            Relation::Equal => value == wanted,
            Relation::Less => value < wanted,
            Relation::LessOrEqual => value <= wanted,
            Relation::Greater => value > wanted,
            Relation::GreaterOrEqual => value >= wanted,
        }
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn truth(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(operator: &str, key: &str, values: &[&str], context: &Context) -> bool {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        Condition::parse(operator, key, &values, true, "a").unwrap().holds(context, Effect::Allow)
    }

    #[test]
    fn each_operator_compares_as_its_name_says() {
        let context = Context::default()
            .with("aws:username", "Ann")
            .with("aws:SourceIp", "203.0.113.9")
            .with("aws:SecureTransport", "false")
            .with("aws:PrincipalArn", "arn:aws:iam::123456789012:user/Ann")
            .with("s3:max-keys", "100")
            .at(1_709_208_000_000);
        for (operator, key, values, expect) in [
            ("StringEquals", "aws:username", &["Bob", "Ann"][..], true),
            ("StringEquals", "AWS:UserName", &["Ann"], true),
            ("StringEquals", "aws:username", &["ann"], false),
            ("StringEquals", "aws:username", &["A*"], false),
            ("StringEquals", "aws:username", &["${aws:username}"], true),
            ("StringNotEquals", "aws:username", &["Bob", "Ann"], false),
            ("StringNotEquals", "aws:username", &["Bob", "Cid"], true),
            ("StringEqualsIgnoreCase", "aws:username", &["aNN"], true),
            ("StringNotEqualsIgnoreCase", "aws:username", &["aNN"], false),
            ("StringLike", "aws:username", &["A?n"], true),
            ("StringNotLike", "aws:username", &["A*"], false),
            ("ArnLike", "aws:PrincipalArn", &["arn:aws:iam::*:user/*"], true),
            ("ArnEquals", "aws:PrincipalArn", &["arn:aws:iam::*:user/*"], true),
            ("ArnNotLike", "aws:PrincipalArn", &["arn:aws:iam::*:role/*"], true),
            ("ArnNotEquals", "aws:PrincipalArn", &["arn:aws:iam::*:user/Ann"], false),
            ("NumericEquals", "s3:max-keys", &["100.0"], true),
            ("NumericNotEquals", "s3:max-keys", &["100"], false),
            ("NumericLessThan", "s3:max-keys", &["100"], false),
            ("NumericLessThanEquals", "s3:max-keys", &["100"], true),
            ("NumericGreaterThan", "s3:max-keys", &["99"], true),
            ("NumericGreaterThanEquals", "s3:max-keys", &["101"], false),
            ("DateLessThan", "aws:CurrentTime", &["2024-02-29T12:00:01Z"], true),
            ("DateGreaterThan", "aws:CurrentTime", &["2024-02-29T12:00:00Z"], false),
            ("DateGreaterThanEquals", "aws:EpochTime", &["1709208000"], true),
            ("DateEquals", "aws:CurrentTime", &["2024-02-29T13:00:00+01:00"], true),
            ("DateNotEquals", "aws:CurrentTime", &["2024-02-29"], true),
            ("DateLessThanEquals", "aws:CurrentTime", &["2024-02-28"], false),
            ("Bool", "aws:SecureTransport", &["False"], true),
            ("Bool", "aws:SecureTransport", &["true"], false),
            ("BoolNotEquals", "aws:SecureTransport", &["true"], true),
            ("IpAddress", "aws:SourceIp", &["10.0.0.0/8", "203.0.113.0/24"], true),
            ("NotIpAddress", "aws:SourceIp", &["10.0.0.0/8", "203.0.113.0/24"], false),
            ("Null", "aws:username", &["false"], true),
            ("Null", "aws:username", &["true"], false),
            ("Null", "aws:TokenIssueTime", &["true"], true),
            // What is no number is not equal to one.
            ("NumericLessThan", "aws:username", &["100"], false),
            ("NumericNotEquals", "aws:username", &["100"], true),
        ] {
            assert_eq!(holds(operator, key, values, &context), expect, "{operator} {key} {values:?}");
        }
    }

    #[test]
    fn a_key_that_is_not_there_satisfies_only_what_says_so() {
        let nothing = Context::default();
        for (operator, expect) in [
            ("StringEquals", false),
            ("StringNotEquals", true),
            ("StringEqualsIfExists", true),
            ("StringNotEqualsIfExists", true),
            ("ForAllValues:StringEquals", true),
            ("ForAnyValue:StringEquals", false),
            ("ForAnyValue:StringNotEquals", false),
            ("ForAnyValue:StringEqualsIfExists", true),
        ] {
            assert_eq!(holds(operator, "aws:username", &["a"], &nothing), expect, "{operator}");
        }
    }

    #[test]
    fn quantifiers_say_which_of_several_values_count() {
        let context = Context::default().with_request_tags([("team", "red"), ("cost", "1")]);
        for (operator, values, expect) in [
            ("ForAllValues:StringEquals", &["team", "cost", "more"][..], true),
            ("ForAllValues:StringEquals", &["team"], false),
            ("ForAnyValue:StringEquals", &["team"], true),
            ("ForAnyValue:StringEquals", &["other"], false),
            ("ForAllValues:StringNotEquals", &["other"], true),
            ("ForAllValues:StringNotEquals", &["team"], false),
            ("ForAnyValue:StringNotEquals", &["team"], true),
            ("ForAnyValue:StringNotEquals", &["team", "cost"], false),
            ("StringNotEquals", &["team"], false),
        ] {
            assert_eq!(holds(operator, "aws:TagKeys", values, &context), expect, "{operator} {values:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_when_it_is_read() {
        for (operator, key, value) in [
            ("StringIs", "aws:username", "a"),
            ("stringequals", "aws:username", "a"),
            ("NullIfExists", "aws:username", "true"),
            ("ForAllValues:Null", "aws:username", "true"),
            ("ForSome:StringEquals", "aws:username", "a"),
            ("BinaryEquals", "aws:username", "YQ=="),
            ("StringEquals", "aws:frogs", "a"),
            ("NumericEquals", "s3:max-keys", "many"),
            ("NumericEquals", "s3:max-keys", "NaN"),
            ("DateEquals", "aws:CurrentTime", "today"),
            ("Bool", "aws:SecureTransport", "1"),
            ("Null", "aws:username", "yes"),
            ("IpAddress", "aws:SourceIp", "10.0.0.0/99"),
            ("ArnLike", "aws:PrincipalArn", "user/Ann"),
        ] {
            let read = Condition::parse(operator, key, &[value.to_owned()], true, "a");
            assert!(read.is_err(), "{operator} {key} {value}");
        }
    }
}
