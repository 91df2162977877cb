//! Any bytes as a CBOR body: read or refused, in no more room than they take; and what was read is read again as it was
//! written.

#![no_main]

use cbor::{encode, parse};
use libfuzzer_sys::fuzz_target;
use schema::{Member, Shape};

// The room has the shapes of whole services, which take long to instrument; these modules need nothing of them.
#[path = "../../crates/api/src/cbor.rs"]
mod cbor;
mod error {
    #[derive(Debug, PartialEq)]
    pub enum Error {
        Serialization(String),
        TooLarge { limit: usize },
    }
}
#[allow(dead_code, unused_imports, unused_macros)]
#[path = "../../crates/api/src/schema.rs"]
mod schema;

const LIMIT: usize = 1 << 16;

static TEXT: Shape = Shape::string("Text");
static BLOB: Shape = Shape::blob("Blob");
static LONG: Shape = Shape::long("Long");
static DOUBLE: Shape = Shape::double("Double");
static MOMENT: Shape = Shape::timestamp("Moment");
static LIST: Shape = Shape::list("List", &ALL);
static MAP: Shape = Shape::map("Map", &TEXT, &BLOB);
static ALL: Shape = Shape::structure(
    "All",
    &[
        Member::optional("t", &TEXT),
        Member::optional("b", &BLOB),
        Member::optional("l", &LONG),
        Member::optional("d", &DOUBLE),
        Member::optional("m", &MOMENT),
        Member::optional("list", &LIST),
        Member::optional("map", &MAP),
    ],
);

fuzz_target!(|body: &[u8]| {
    let Ok(value) = parse(body, LIMIT, &ALL) else { return };
    // What is absent is left out, and whole numbers of floating members become floating: once.
    let written = encode(&ALL, &value);
    let read = parse(&written, 16 * LIMIT, &ALL).expect("what we write is sound");
    assert_eq!(parse(&encode(&ALL, &read), 16 * LIMIT, &ALL), Ok(read));
});
