//! A policy's statements, and what they say to a request.

use crate::condition::Condition;
use crate::context::Context;
use crate::error::Result;
use crate::pattern::{ArnPattern, Pattern};
use crate::principal::{Fit, Named, Principal};
use crate::read;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
}

/// What policies say to a request. Of several sayings the greatest holds, so their order does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Say {
    /// Nothing, which comes to a denial.
    Nothing,
    /// The caller's account may; it decides by its own policies who of it.
    AllowsAccount,
    Allows,
    Denies,
}

/// A policy that was understood as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub(crate) statements: Vec<Statement>,
    pub(crate) asks_for_resource_tags: bool,
    /// What was read.
    pub(crate) text: Box<str>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Statement {
    pub(crate) effect: Effect,
    /// Of a resource's policy only.
    pub(crate) principals: Option<Matched<Named>>,
    pub(crate) actions: Matched<Pattern>,
    pub(crate) resources: Matched<ArnPattern>,
    pub(crate) conditions: Vec<Condition>,
}

/// `Action` or `NotAction`, and their like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Matched<T> {
    Any(Vec<T>),
    None(Vec<T>),
}

impl<T> Matched<T> {
    fn values(&self) -> &[T] {
        match self {
            Matched::Any(values) | Matched::None(values) => values,
        }
    }

    fn holds(&self, matches: impl FnMut(&T) -> bool) -> bool {
        match self {
            Matched::Any(values) => values.iter().any(matches),
            Matched::None(values) => !values.iter().any(matches),
        }
    }
}

/// What a request comes to for one policy.
pub(crate) struct Asked<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) action: &'a str,
    /// All names of one resource.
    pub(crate) resources: &'a [String],
    pub(crate) context: &'a Context,
}

impl Policy {
    /// Reads a user's policy, which speaks of nobody else: `Principal` is refused.
    ///
    /// # Errors
    /// Whatever is not understood, by place, name and rule.
    pub fn of_user(text: &str) -> Result<Policy> {
        read::policy(text, false)
    }

    /// Reads a resource's policy, which says of whom it speaks: each statement has a `Principal` or `NotPrincipal`.
    ///
    /// # Errors
    /// As [`Policy::of_user`].
    pub fn of_resource(text: &str) -> Result<Policy> {
        read::policy(text, true)
    }

    /// Whether every statement names only some of these actions, each by its whole name: for services that allow nothing
    /// else to be given away.
    pub fn names_only(&self, actions: &[&str]) -> bool {
        let one_of = |name: String| actions.iter().any(|action| action.eq_ignore_ascii_case(&name));
        self.statements.iter().all(|statement| match &statement.actions {
            Matched::Any(patterns) => patterns.iter().all(|pattern| pattern.literal().is_some_and(one_of)),
            Matched::None(_) => false,
        })
    }

    /// Whether anything depends on the tags of the resource, be it as a condition or as a variable.
    pub fn asks_for_resource_tags(&self) -> bool {
        self.asks_for_resource_tags
    }

    pub(crate) fn say(&self, asked: &Asked<'_>) -> Say {
        self.statements.iter().map(|statement| statement.say(asked)).max().unwrap_or(Say::Nothing)
    }
}

impl Statement {
    fn say(&self, asked: &Asked<'_>) -> Say {
        let action = asked.action.to_ascii_lowercase();
        let speaks = self.actions.holds(|pattern| pattern.matches(&action, asked.context))
            && self.names(asked)
            && self.conditions.iter().all(|condition| condition.holds(asked.context, self.effect));
        match self.fit(asked.principal) {
            Some(_) if speaks && self.effect == Effect::Deny => Say::Denies,
            Some(Fit::Person) if speaks => Say::Allows,
            Some(Fit::Account) if speaks => Say::AllowsAccount,
            _ => Say::Nothing,
        }
    }

    /// Whether the statement speaks of this resource.
    fn names(&self, asked: &Asked<'_>) -> bool {
        if self.resources.values().iter().any(|pattern| pattern.is_ambiguous(asked.context)) {
            return self.effect == Effect::Deny;
        }
        self.resources
            .holds(|pattern| asked.resources.iter().any(|name| pattern.matches(name, asked.context)))
    }

    /// Whether the statement speaks of this principal.
    fn fit(&self, principal: &Principal) -> Option<Fit> {
        match &self.principals {
            None => Some(Fit::Person),
            Some(Matched::Any(names)) => names.iter().filter_map(|named| named.fit(principal)).max(),
            // Only denials have a NotPrincipal. Whoever is not named himself is denied, as at AWS, where naming the account
            // alone does not except its users.
            Some(Matched::None(names)) => {
                let excepted = names.iter().any(|named| named.fit(principal) == Some(Fit::Person));
                (!excepted).then_some(Fit::Person)
            }
        }
    }
}
