//! Nothing: this package is its test, `tests/walkthrough.rs`.
