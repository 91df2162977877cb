//! Golden logs: the whole log of example builds, as `tests/cases/logs` has it.
//!
//! With `UPDATE=1` in the environment the logs are written instead of compared.

crate::cases![];
