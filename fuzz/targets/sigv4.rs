//! Any request with any signature on it: it is never let in, whatever it says, and the refusal can be said in every service's words.

#![no_main]

// To the modules of the verifier, this program is the rooms that they take their errors and their callers' rights from.
extern crate self as access;
extern crate self as api;

use libfuzzer_sys::fuzz_target;
use signing::server::{keys, time};
use signing::{Principal, Rights, ServiceError, read, verdict};

#[allow(dead_code)]
mod signing;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let service = if first & 1 == 0 { "codebuild" } else { "s3" };
    let Some(input) = read(rest) else { return };
    match verdict(&input, service) {
        Ok(caller) => panic!("somebody was let in: {caller:?}"),
        Err(rejection) => drop((rejection.json(), rejection.query(), rejection.s3())),
    }
});
