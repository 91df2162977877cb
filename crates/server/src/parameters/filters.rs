//! Which parameters a list holds.
// COMPAT: keys, options and error codes are those of DescribeParameters and GetParametersByPath.

use api::ServiceError;
use api::ssm::{ParameterStringFilter, ParametersFilter, ParametersFilterKey};

use super::{Document, Tags, names};

/// Conditions that all hold for what is listed.
#[derive(Debug, Default)]
pub(super) struct Filters {
    conditions: Vec<Condition>,
    /// The path that everything lies below, with a slash at its end, and how deep it may lie.
    path: Option<(String, bool)>,
}

/// One of the values is the key's, as the option compares them.
#[derive(Debug)]
struct Condition {
    key: Key,
    compare: Compare,
    values: Vec<String>,
}

#[derive(Debug)]
enum Key {
    Name,
    Type,
    Kms,
    Tier,
    DataType,
    Tag(String),
    /// Below one of the values.
    Path,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Equals,
    BeginsWith,
    Contains,
    /// Of paths.
    Recursive,
    OneLevel,
}

impl Filters {
    /// Of DescribeParameters: the old form or the new one.
    pub(super) fn described(
        old: Vec<ParametersFilter>,
        new: Vec<ParameterStringFilter>,
    ) -> Result<Filters, ServiceError> {
        if !old.is_empty() && !new.is_empty() {
            return Err(ServiceError::validation(
                "You can use either Filters or ParameterFilters in a single request.",
            ));
        }
        let old = old.into_iter().map(Condition::of_old);
        let conditions = old.chain(new.into_iter().map(Condition::of)).collect::<Result<_, _>>()?;
        Ok(Filters { conditions, path: None })
    }

    /// Of GetParametersByPath, which knows fewer keys.
    pub(super) fn by_path(filters: Vec<ParameterStringFilter>) -> Result<Filters, ServiceError> {
        let conditions: Vec<Condition> = filters.into_iter().map(Condition::of).collect::<Result<_, _>>()?;
        match conditions.iter().find(|condition| !matches!(condition.key, Key::Type | Key::Kms)) {
            Some(_) => Err(invalid(
                "InvalidFilterKey",
                "The following filter key is not valid for GetParametersByPath. Valid filter keys include: [Type, KeyId].",
            )),
            None => Ok(Filters { conditions, path: None }),
        }
    }

    /// Only what lies below `path`, which ends in a slash.
    pub(super) fn below(self, path: &str, recursive: bool) -> Filters {
        Filters { path: Some((path.to_owned(), recursive)), ..self }
    }

    /// What every name that is let through begins with.
    pub(super) fn prefix(&self) -> &str {
        self.path.as_ref().map_or("", |(path, _)| path)
    }

    pub(super) fn let_through(&self, name: &str, document: &Document, tags: &Tags) -> bool {
        let placed = self.path.as_ref().is_none_or(|(path, recursive)| lies_below(name, path, *recursive));
        placed && self.conditions.iter().all(|condition| condition.holds(name, document, tags))
    }
}

fn lies_below(name: &str, path: &str, recursive: bool) -> bool {
    name.strip_prefix(path).is_some_and(|rest| recursive || !rest.contains('/'))
}

impl Condition {
    fn of_old(filter: ParametersFilter) -> Result<Condition, ServiceError> {
        let values = filter.values.unwrap_or_default();
        let (key, compare) = match filter.key {
            Some(ParametersFilterKey::Name) => (Key::Name, Compare::BeginsWith),
            Some(ParametersFilterKey::Type) => (Key::Type, Compare::Equals),
            Some(ParametersFilterKey::KeyId) => (Key::Kms, Compare::Equals),
            _ => return Err(invalid("InvalidFilterKey", "The specified key isn't valid.")),
        };
        Ok(Condition { key, compare, values })
    }

    fn of(filter: ParameterStringFilter) -> Result<Condition, ServiceError> {
        let key = Key::of(filter.key.as_deref().unwrap_or_default())?;
        let compare = key.comparison(filter.option.as_deref())?;
        let mut values = filter.values.unwrap_or_default();
        if values.is_empty() && !matches!(key, Key::Tag(_)) {
            return Err(invalid(
                "InvalidFilterValue",
                "The filter value is not valid. A filter has at least one value.",
            ));
        }
        if matches!(key, Key::Path) {
            values = values.iter().map(|path| names::path(path)).collect::<Result<_, _>>()?;
        }
        Ok(Condition { key, compare, values })
    }

    fn holds(&self, name: &str, document: &Document, tags: &Tags) -> bool {
        let found = match &self.key {
            Key::Name => name,
            Key::Type => document.kind.as_str(),
            Key::Kms => document.key_id.as_deref().unwrap_or_default(),
            Key::Tier => document.tier.as_str(),
            Key::DataType => &document.data_type,
            Key::Path => {
                let recursive = self.compare == Compare::Recursive;
                return self.values.iter().any(|path| lies_below(name, path, recursive));
            }
            Key::Tag(key) => match tags.get(key) {
                Some(value) => value,
                None => return false,
            },
        };
        // A tag's key alone asks for the tag, whatever its value.
        self.values.is_empty() || self.values.iter().any(|value| self.compare.is_met(found, value))
    }
}

impl Compare {
    fn is_met(self, found: &str, value: &str) -> bool {
        match self {
            Compare::BeginsWith => found.starts_with(value),
            Compare::Contains => found.contains(value),
            Compare::Equals | Compare::Recursive | Compare::OneLevel => found == value,
        }
    }
}

impl Key {
    fn of(text: &str) -> Result<Key, ServiceError> {
        Ok(match text {
            "Name" => Key::Name,
            "Type" => Key::Type,
            "KeyId" => Key::Kms,
            "Tier" => Key::Tier,
            "DataType" => Key::DataType,
            "Path" => Key::Path,
            _ => match text.strip_prefix("tag:") {
                Some(key) => Key::Tag(key.to_owned()),
                None => {
                    return Err(invalid(
                        "InvalidFilterKey",
                        format!("The filter key {text} is not available in this version."),
                    ));
                }
            },
        })
    }

    fn comparison(&self, option: Option<&str>) -> Result<Compare, ServiceError> {
        let compare = match (self, option) {
            (Key::Path, None | Some("OneLevel")) => Compare::OneLevel,
            (Key::Path, Some("Recursive")) => Compare::Recursive,
            (Key::Path, _) => return Err(invalid_option(option)),
            (_, None | Some("Equals")) => Compare::Equals,
            (Key::Name | Key::Kms, Some("BeginsWith")) => Compare::BeginsWith,
            (Key::Name, Some("Contains")) => Compare::Contains,
            _ => return Err(invalid_option(option)),
        };
        Ok(compare)
    }
}

fn invalid_option(option: Option<&str>) -> ServiceError {
    let option = option.unwrap_or_default();
    invalid("InvalidFilterOption", format!("The following filter option is not valid: {option}."))
}

fn invalid(code: &'static str, message: impl Into<String>) -> ServiceError {
    ServiceError::new(code, message, 400)
}

#[cfg(test)]
mod tests {
    use api::ssm::{ParameterTier, ParameterType};

    use super::*;

    fn filter(key: &str, option: Option<&str>, values: &[&str]) -> ParameterStringFilter {
        ParameterStringFilter {
            key: Some(key.to_owned()),
            option: option.map(str::to_owned),
            values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
        }
    }

    fn document() -> Document {
        Document {
            kind: ParameterType::SecureString,
            description: None,
            key_id: Some("alias/mine".into()),
            allowed_pattern: None,
            tier: ParameterTier::Standard,
            data_type: "text".into(),
            user: "u".into(),
        }
    }

    #[test]
    fn a_filter_lets_through_what_its_option_says() {
        let tags = Tags::from([("team".to_owned(), "blue".to_owned())]);
        for (key, option, values, expect) in [
            ("Name", None, &["/app/db/key"][..], true),
            ("Name", Some("Equals"), &["/app"], false),
            ("Name", Some("BeginsWith"), &["x", "/app"], true),
            ("Name", Some("Contains"), &["db"], true),
            ("Type", None, &["String"], false),
            ("Type", None, &["String", "SecureString"], true),
            ("KeyId", Some("BeginsWith"), &["alias/"], true),
            ("Path", None, &["/app"], false),
            ("Path", Some("OneLevel"), &["/app/db"], true),
            ("Path", Some("Recursive"), &["/app"], true),
            ("Path", Some("Recursive"), &["/ap"], false),
            ("Tier", None, &["Advanced"], false),
            ("DataType", None, &["text"], true),
            ("tag:team", None, &["blue"], true),
            ("tag:team", None, &[], true),
            ("tag:team", None, &["red"], false),
            ("tag:owner", None, &[], false),
        ] {
            let filters = Filters::described(Vec::new(), vec![filter(key, option, values)]).unwrap();
            assert_eq!(
                filters.let_through("/app/db/key", &document(), &tags),
                expect,
                "{key} {option:?} {values:?}"
            );
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_by_its_part() {
        for (refused, code) in [
            (filter("Label", None, &["x"]), "InvalidFilterKey"),
            (filter("Type", Some("BeginsWith"), &["S"]), "InvalidFilterOption"),
            (filter("Path", Some("Equals"), &["/a"]), "InvalidFilterOption"),
            (filter("Name", None, &[]), "InvalidFilterValue"),
            (filter("Path", None, &["a"]), "ValidationException"),
        ] {
            assert_eq!(
                Filters::described(Vec::new(), vec![refused.clone()]).unwrap_err().code,
                code,
                "{refused:?}"
            );
        }
        let names = vec![filter("Name", None, &["a"])];
        assert_eq!(Filters::by_path(names).unwrap_err().code, "InvalidFilterKey");
    }
}
