//! Running SQL texts inside a transaction, whichever database it is: values, columns, and nothing of a driver's.

use std::collections::HashMap;

use super::connection::Connection;
use crate::error::{Error, Result};

/// What a column or a parameter holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Text(String),
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Integer(value)
    }
}

impl From<&i64> for Value {
    fn from(value: &i64) -> Value {
        Value::Integer(*value)
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Value {
        Value::Text(value.clone())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Integer(value.into())
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Value {
        value.map_or(Value::Null, Value::Text)
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Value {
        value.map_or(Value::Null, Value::Integer)
    }
}

/// What is made of a column.
pub(super) trait Column: Sized {
    fn of(value: Value) -> Option<Self>;
}

impl Column for i64 {
    fn of(value: Value) -> Option<i64> {
        if let Value::Integer(value) = value { Some(value) } else { None }
    }
}

impl Column for bool {
    fn of(value: Value) -> Option<bool> {
        i64::of(value).map(|value| value != 0)
    }
}

impl Column for String {
    fn of(value: Value) -> Option<String> {
        if let Value::Text(value) = value { Some(value) } else { None }
    }
}

impl<T: Column> Column for Option<T> {
    fn of(value: Value) -> Option<Option<T>> {
        if value == Value::Null { Some(None) } else { T::of(value).map(Some) }
    }
}

/// A row of either database.
pub(super) enum Columns<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r tokio_postgres::Row),
}

impl Columns<'_> {
    /// A column, by its place.
    pub(super) fn get<T: Column>(&self, index: usize) -> Result<T> {
        let failed =
            |error: Box<dyn std::error::Error + Send + Sync>| Error::internal("reading a record", error);
        let value: Value = match self {
            Columns::Sqlite(row) => row.get(index).map_err(|error| failed(error.into()))?,
            Columns::Postgres(row) => row.try_get(index).map_err(|error| failed(error.into()))?,
        };
        T::of(value).ok_or_else(|| failed(format!("column {index} is of another type").into()))
    }

    /// Counts are never negative where we write them.
    pub(super) fn count(&self, index: usize) -> Result<u64> {
        let found: i64 = self.get(index)?;
        u64::try_from(found).map_err(|error| Error::internal("reading a record", error))
    }
}

/// What runs inside a transaction.
pub(super) struct Sql<'c> {
    connection: &'c Connection,
}

impl<'c> Sql<'c> {
    pub(super) fn new(connection: &'c Connection) -> Sql<'c> {
        Sql { connection }
    }

    /// Gives how many rows were changed.
    pub(super) fn execute<const N: usize>(&self, text: &str, parameters: [Value; N]) -> Result<usize> {
        check(text, &parameters)?;
        self.connection.execute(text, &parameters)
    }

    pub(super) fn rows<T>(
        &self,
        text: &str,
        parameters: impl IntoIterator<Item = Value>,
        read: impl Fn(&Columns<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let parameters: Vec<Value> = parameters.into_iter().collect();
        check(text, &parameters)?;
        let mut found = Vec::new();
        self.connection.query(text, &parameters, &mut |row| {
            found.push(read(row)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// The first row, if there is one.
    pub(super) fn row<T>(
        &self,
        text: &str,
        parameters: impl IntoIterator<Item = Value>,
        read: impl Fn(&Columns<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.rows(text, parameters, read)?.into_iter().next())
    }
}

/// PostgreSQL cannot hold a NUL in a text. SQLite could, but a record shall fit into either.
fn check(text: &str, parameters: &[Value]) -> Result<()> {
    debug_assert!(numbered_in_order(text), "{text}");
    let holds_nul = |value: &Value| matches!(value, Value::Text(text) if text.contains('\0'));
    match parameters.iter().any(holds_nul) {
        true => Err(Error::InvalidText("it holds the character U+0000")),
        false => Ok(()),
    }
}

/// SQLite takes `$1` for a name and numbers parameters as they first appear: both numberings must agree.
fn numbered_in_order(text: &str) -> bool {
    let mut seen = 0;
    text.split('$').skip(1).all(|after| {
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let number: usize = after[..digits].parse().unwrap_or(0);
        seen = seen.max(number.min(seen + 1));
        (1..=seen).contains(&number)
    })
}

/// `($n, $n+1, ...)` for as many values, to stand behind IN; the values are added to `parameters`. Lists of a
/// similar length make the same text, so that few statements are prepared.
pub(super) fn one_of<'v, V>(values: &'v [V], parameters: &mut Vec<Value>) -> String
where
    Value: From<&'v V>,
{
    let width = values.len().max(1).next_power_of_two();
    let first = parameters.len() + 1;
    let of = |index| values.get(index).or(values.last()).map_or(Value::Null, Value::from);
    parameters.extend((0..width).map(of));
    let numbers: Vec<String> = (first..first + width).map(|number| format!("${number}")).collect();
    format!("({})", numbers.join(", "))
}

/// What was found, in the order in which it was asked for: each as often as it was.
pub(super) fn in_order<T: Clone>(asked: &[String], found: Vec<T>, name: impl Fn(&T) -> &String) -> Vec<T> {
    let by_name: HashMap<&String, &T> = found.iter().map(|found| (name(found), found)).collect();
    asked.iter().filter_map(|asked| by_name.get(asked).map(|found| (*found).clone())).collect()
}

pub(super) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// Counts beyond what a database can hold do not occur; they would end as the greatest it can.
pub(super) fn count(count: u64) -> Value {
    Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_must_appear_in_the_order_of_their_numbers() {
        assert!(numbered_in_order("SELECT 1"));
        assert!(numbered_in_order("SELECT $1, $2, $1, $3"));
        assert!(!numbered_in_order("SELECT $2, $1"));
        assert!(!numbered_in_order("SELECT $1, $3"));
        assert!(!numbered_in_order("SELECT $x"));
    }

    #[test]
    fn lists_of_similar_lengths_make_the_same_text() {
        let values = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        let mut parameters = vec![text("before")];
        assert_eq!(one_of(&values(3), &mut parameters), "($2, $3, $4, $5)");
        assert_eq!(parameters, ["before", "0", "1", "2", "2"].map(text));
        assert_eq!(one_of(&values(1), &mut Vec::new()), "($1)");
        assert_eq!(one_of(&values(4), &mut vec![text("before")]), "($2, $3, $4, $5)");
    }
}
