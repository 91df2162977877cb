//! What `cargo xtask codegen` writes, one module per service. Nothing here is edited by hand.

#[rustfmt::skip]
pub mod codebuild;
#[rustfmt::skip]
pub mod logs;
#[rustfmt::skip]
pub mod publicbuilds;
#[rustfmt::skip]
pub mod secretsmanager;
#[rustfmt::skip]
pub mod ssm;
#[rustfmt::skip]
pub mod sts;
#[rustfmt::skip]
pub mod tagging;
