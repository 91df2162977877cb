//! From a policy's text to a policy. Nothing is skipped: what is not understood is an error.

use crate::condition::Condition;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::limits;
use crate::pattern::{ArnPattern, Dialect, Pattern};
use crate::policy::{Effect, Matched, Policy, Statement};
use crate::principal::Named;

pub(crate) fn policy(text: &str, of_resource: bool) -> Result<Policy> {
    if text.len() > limits::POLICY_BYTES {
        return Err(Error::TooLong { bytes: text.len(), limit: limits::POLICY_BYTES });
    }
    let document = Json::parse(text)?;
    let policy = Element { place: "the policy", members: members(&document, "the policy")? };
    policy.knows(&["Version", "Id", "Statement"])?;
    policy.text("Id")?;
    let variables = match policy.text("Version")? {
        Some("2012-10-17") => true,
        // COMPAT: a policy without a version is one of 2008, in which `${` has no meaning.
        Some("2008-10-17") | None => false,
        Some(other) => return Err(Error::wrong("Version", other, "is neither 2012-10-17 nor 2008-10-17")),
    };
    let dialect = Reading { of_resource, variables };
    let statements = match policy.get("Statement") {
        Some(Json::List(list)) => list.iter().collect(),
        Some(one) => vec![one],
        None => Vec::new(),
    };
    if statements.is_empty() {
        return Err(policy.missing("Statement"));
    }
    at_most("Statement", statements.len(), limits::STATEMENTS)?;
    let statements = statements.into_iter().enumerate();
    let statements = statements.map(|(at, one)| dialect.statement(one, &format!("Statement[{at}]")));
    // As a condition's key, as a variable, or in a text by chance, which costs nothing but a look.
    let asks_for_resource_tags =
        text.to_ascii_lowercase().contains("aws:resourcetag/") || text.contains("\\u");
    let statements = statements.collect::<Result<_>>()?;
    Ok(Policy { statements, asks_for_resource_tags, text: text.into() })
}

/// How statements are read.
#[derive(Clone, Copy)]
struct Reading {
    of_resource: bool,
    variables: bool,
}

impl Reading {
    fn statement(self, json: &Json, place: &str) -> Result<Statement> {
        let element = Element { place, members: members(json, place)? };
        let own = ["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"];
        let of_others = ["Principal", "NotPrincipal"];
        match self.of_resource {
            true => element.knows(&[&own[..], &of_others].concat())?,
            false => element.knows(&own)?,
        }
        element.text("Sid")?;
        let effect = match element.text("Effect")? {
            Some("Allow") => Effect::Allow,
            Some("Deny") => Effect::Deny,
            Some(other) => {
                return Err(Error::wrong(&element.at("Effect"), other, "is neither Allow nor Deny"));
            }
            None => return Err(element.missing("Effect")),
        };
        let principals = match self.of_resource {
            true => Some(self.principals(&element, effect)?),
            false => None,
        };
        Ok(Statement {
            effect,
            principals,
            actions: element.either("Action", "NotAction", |text, place| self.action(text, place))?,
            resources: element.either("Resource", "NotResource", |text, place| {
                ArnPattern::parse(text, self.variables, place)
            })?,
            conditions: self.conditions(&element)?,
        })
    }

    /// Lower case, as actions are compared.
    fn action(self, text: &str, place: &str) -> Result<Pattern> {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'*' | b'?');
        let sound = text.split_once(':').is_some_and(|(service, name)| {
            let parts = [service, name];
            parts.iter().all(|part| !part.is_empty() && part.bytes().all(letters))
        });
        if !sound && text != "*" {
            return Err(Error::wrong(place, text, "is neither `*` nor of the form service:Action"));
        }
        Pattern::parse(&text.to_ascii_lowercase(), Dialect { wildcards: true, variables: false }, place)
    }

    fn principals(self, element: &Element<'_>, effect: Effect) -> Result<Matched<Named>> {
        match (element.get("Principal"), element.get("NotPrincipal")) {
            (Some(json), None) => Ok(Matched::Any(principals(json, &element.at("Principal"))?)),
            (None, Some(json)) => {
                let place = element.at("NotPrincipal");
                if effect == Effect::Allow {
                    return Err(Error::wrong(&place, "Allow", "cannot be said of all but some"));
                }
                Ok(Matched::None(principals(json, &place)?))
            }
            (None, None) => Err(element.missing("Principal")),
            (Some(_), Some(_)) => Err(both(element, "Principal", "NotPrincipal")),
        }
    }

    fn conditions(self, element: &Element<'_>) -> Result<Vec<Condition>> {
        let Some(json) = element.get("Condition") else { return Ok(Vec::new()) };
        let place = element.at("Condition");
        let mut conditions = Vec::new();
        for (operator, keys) in members(json, &place)? {
            let place = format!("{place}.{operator}");
            for (key, values) in members(keys, &place)? {
                let values = scalars(values, &format!("{place}.{key}"))?;
                conditions.push(Condition::parse(operator, key, &values, self.variables, &place)?);
                at_most(&place, conditions.len(), limits::VALUES)?;
            }
        }
        Ok(conditions)
    }
}

fn principals(json: &Json, place: &str) -> Result<Vec<Named>> {
    if let Json::Text(text) = json {
        return match text.as_str() {
            "*" => Ok(vec![Named::Everybody]),
            other => Err(Error::wrong(place, other, "is neither `*` nor an object such as {\"AWS\": ...}")),
        };
    }
    let mut named = Vec::new();
    for (sort, values) in members(json, place)? {
        let place = format!("{place}.{sort}");
        for value in texts(values, &place)? {
            named.push(match sort.as_str() {
                "AWS" => Named::parse(value, &place)?,
                "Service" | "Federated" | "CanonicalUser" => Named::Stranger,
                _ => return Err(Error::unknown(&place, sort)),
            });
        }
    }
    match named.is_empty() {
        true => Err(Error::wrong(place, "{}", "names nobody")),
        false => Ok(named),
    }
}

/// An object with its place in the policy.
struct Element<'a> {
    place: &'a str,
    members: &'a [(String, Json)],
}

impl<'a> Element<'a> {
    fn get(&self, name: &str) -> Option<&'a Json> {
        self.members.iter().find(|(member, _)| member == name).map(|(_, value)| value)
    }

    fn at(&self, name: &str) -> String {
        format!("{}.{name}", self.place)
    }

    fn missing(&self, element: &'static str) -> Error {
        Error::Missing { place: self.place.to_owned(), element }
    }

    fn knows(&self, names: &[&str]) -> Result<()> {
        match self.members.iter().find(|(member, _)| !names.contains(&member.as_str())) {
            Some((member, _)) => Err(Error::unknown(self.place, member)),
            None => Ok(()),
        }
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>> {
        match self.get(name) {
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(other) => Err(Error::wrong(&self.at(name), &other.describe(), "is no text")),
            None => Ok(None),
        }
    }

    /// An element that has a form with `Not`; one of both must be there.
    fn either<T>(
        &self,
        plain: &'static str,
        negated: &'static str,
        read: impl Fn(&str, &str) -> Result<T>,
    ) -> Result<Matched<T>> {
        let all = |json: &Json, name: &str| {
            let place = self.at(name);
            texts(json, &place)?.into_iter().map(|text| read(text, &place)).collect::<Result<Vec<T>>>()
        };
        match (self.get(plain), self.get(negated)) {
            (Some(json), None) => Ok(Matched::Any(all(json, plain)?)),
            (None, Some(json)) => Ok(Matched::None(all(json, negated)?)),
            (None, None) => Err(self.missing(plain)),
            (Some(_), Some(_)) => Err(both(self, plain, negated)),
        }
    }
}

fn both(element: &Element<'_>, plain: &str, negated: &str) -> Error {
    Error::wrong(
        element.place,
        negated,
        match plain {
            "Principal" => "stands beside Principal; only one of them may be there",
            "Action" => "stands beside Action; only one of them may be there",
            _ => "stands beside Resource; only one of them may be there",
        },
    )
}

fn members<'a>(json: &'a Json, place: &str) -> Result<&'a [(String, Json)]> {
    match json {
        Json::Object(members) => Ok(members),
        other => Err(Error::wrong(place, &other.describe(), "is no object")),
    }
}

/// One text, or a list of at least one.
fn texts<'a>(json: &'a Json, place: &str) -> Result<Vec<&'a str>> {
    let list = list(json, place)?.iter().map(|one| match one {
        Json::Text(text) => Ok(text.as_str()),
        other => Err(Error::wrong(place, &other.describe(), "is no text")),
    });
    list.collect()
}

/// One text, number or truth value, or a list of at least one.
fn scalars(json: &Json, place: &str) -> Result<Vec<String>> {
    let list = list(json, place)?.iter().map(|one| match one {
        Json::Text(_) | Json::Number(_) | Json::Bool(_) => Ok(one.describe()),
        other => Err(Error::wrong(place, &other.describe(), "is neither text nor number nor truth value")),
    });
    list.collect()
}

fn list<'a>(json: &'a Json, place: &str) -> Result<&'a [Json]> {
    let list = match json {
        Json::List(list) => list,
        one => std::slice::from_ref(one),
    };
    if list.is_empty() {
        return Err(Error::wrong(place, "[]", "has no value"));
    }
    at_most(place, list.len(), limits::VALUES)?;
    Ok(list)
}

fn at_most(place: &str, count: usize, limit: usize) -> Result<()> {
    match count > limit {
        true => Err(Error::TooMany { place: place.to_owned(), count, limit }),
        false => Ok(()),
    }
}
