//! Conditions combined with `&&`, `||` and parentheses; `&&` binds stronger.

use super::Parsed;
use super::scan::Scanner;

/// Parentheses within parentheses.
const DEPTH_MAX: usize = 16;

#[derive(Debug, Clone)]
pub(super) enum Expression<T> {
    One(T),
    All(Vec<Expression<T>>),
    Any(Vec<Expression<T>>),
}

/// Reads one condition.
pub(super) type Leaf<'a, T> = dyn FnMut(&mut Scanner<'_>) -> Parsed<T> + 'a;

impl<T> Expression<T> {
    pub(super) fn parse(scanner: &mut Scanner<'_>, leaf: &mut Leaf<'_, T>) -> Parsed<Expression<T>> {
        Expression::any(scanner, leaf, 0)
    }

    fn any(scanner: &mut Scanner<'_>, leaf: &mut Leaf<'_, T>, depth: usize) -> Parsed<Expression<T>> {
        let mut parts = vec![Expression::all(scanner, leaf, depth)?];
        while scanner.take("||") {
            parts.push(Expression::all(scanner, leaf, depth)?);
        }
        Ok(Expression::of(parts, Expression::Any))
    }

    fn all(scanner: &mut Scanner<'_>, leaf: &mut Leaf<'_, T>, depth: usize) -> Parsed<Expression<T>> {
        let mut parts = vec![Expression::one(scanner, leaf, depth)?];
        while scanner.take("&&") {
            parts.push(Expression::one(scanner, leaf, depth)?);
        }
        Ok(Expression::of(parts, Expression::All))
    }

    fn one(scanner: &mut Scanner<'_>, leaf: &mut Leaf<'_, T>, depth: usize) -> Parsed<Expression<T>> {
        if !scanner.take("(") {
            return leaf(scanner).map(Expression::One);
        }
        if depth == DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} parentheses within each other"));
        }
        let inner = Expression::any(scanner, leaf, depth + 1)?;
        scanner.expect(")")?;
        Ok(inner)
    }

    fn of(mut parts: Vec<Expression<T>>, several: fn(Vec<Expression<T>>) -> Expression<T>) -> Expression<T> {
        match parts.pop() {
            Some(only) if parts.is_empty() => only,
            last => {
                parts.extend(last);
                several(parts)
            }
        }
    }

    pub(super) fn holds(&self, condition: &dyn Fn(&T) -> bool) -> bool {
        match self {
            Expression::One(one) => condition(one),
            Expression::All(parts) => parts.iter().all(|part| part.holds(condition)),
            Expression::Any(parts) => parts.iter().any(|part| part.holds(condition)),
        }
    }
}
