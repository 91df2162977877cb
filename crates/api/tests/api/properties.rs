//! What holds for every operation and every request, sound or not.

use api::schema::{Kind, Shape};
use api::{Error, codebuild, json, logs, secretsmanager, ssm, sts, validate};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// An operation of any service.
type Canonical = fn(usize, Value) -> Result<Value, Error>;

fn inputs() -> Vec<(&'static Shape, usize, Canonical)> {
    let codebuild = codebuild::Operation::ALL.iter().enumerate().map(|(i, op)| {
        (op.input(), i, (|i, request| codebuild::Operation::ALL[i].canonical_input(request)) as Canonical)
    });
    let logs = logs::Operation::ALL.iter().enumerate().map(|(i, op)| {
        (op.input(), i, (|i, request| logs::Operation::ALL[i].canonical_input(request)) as Canonical)
    });
    let secretsmanager = secretsmanager::Operation::ALL.iter().enumerate().map(|(i, op)| {
        let canonical: Canonical = |i, request| secretsmanager::Operation::ALL[i].canonical_input(request);
        (op.input(), i, canonical)
    });
    let ssm = ssm::Operation::ALL.iter().enumerate().map(|(i, op)| {
        (op.input(), i, (|i, request| ssm::Operation::ALL[i].canonical_input(request)) as Canonical)
    });
    let sts = sts::Operation::ALL.iter().enumerate().map(|(i, op)| {
        (op.input(), i, (|i, request| sts::Operation::ALL[i].canonical_input(request)) as Canonical)
    });
    codebuild.chain(logs).chain(secretsmanager).chain(ssm).chain(sts).collect()
}

/// Any JSON at all.
fn noise() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z]{0,8}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
    .boxed()
}

/// A value that `shape` allows; with `wild`, sometimes one that it does not.
fn value(shape: &'static Shape, wild: bool) -> BoxedStrategy<Value> {
    let sound = sound(shape, wild);
    if wild { prop_oneof![9 => sound, 1 => noise()].boxed() } else { sound }
}

fn sound(shape: &'static Shape, wild: bool) -> BoxedStrategy<Value> {
    let bounds =
        shape.min.unwrap_or(0).max(-9)..=shape.max.unwrap_or(i64::MAX).min(shape.min.unwrap_or(0) + 40);
    match shape.kind {
        Kind::Structure(_) => structure(shape, wild),
        Kind::List(element) => {
            let length = shape.min.unwrap_or(0) as usize..=shape.max.unwrap_or(2).min(2) as usize;
            prop::collection::vec(value(element, wild), length).prop_map(Value::from).boxed()
        }
        Kind::Map(key, entry) => {
            let key = value(key, false).prop_map(|key| key.as_str().expect("keys are words").to_owned());
            prop::collection::btree_map(key, value(entry, wild), shape.min.unwrap_or(0) as usize..=2)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
                .boxed()
        }
        Kind::String if !shape.values.is_empty() => {
            prop::sample::select(shape.values).prop_map(Value::from).boxed()
        }
        Kind::String => bounds.prop_map(|length| word(shape, length as usize).into()).boxed(),
        Kind::Blob => bounds.prop_map(|bytes| blob(bytes as usize).into()).boxed(),
        Kind::Boolean => any::<bool>().prop_map(Value::from).boxed(),
        Kind::Integer | Kind::Long => bounds.prop_map(Value::from).boxed(),
        Kind::Double => bounds.prop_map(|n| Value::from(n as f64)).boxed(),
        Kind::Timestamp => any::<i32>().prop_map(|n| Value::from(f64::from(n) + 0.25)).boxed(),
    }
}

fn structure(shape: &'static Shape, wild: bool) -> BoxedStrategy<Value> {
    let members: Vec<_> = shape
        .members()
        .iter()
        .map(|member| {
            let value = value(member.shape, wild);
            let value = match (member.required, wild) {
                (true, false) => value.prop_map(Some).boxed(),
                (true, true) => prop::option::weighted(0.95, value).boxed(),
                (false, _) => prop::option::of(value).boxed(),
            };
            value.prop_map(|value| value.map(|value| (member.name.to_owned(), value)))
        })
        .collect();
    members.prop_map(|members| Value::Object(members.into_iter().flatten().collect::<Map<_, _>>())).boxed()
}

fn word(shape: &Shape, length: usize) -> String {
    let letters = ["a", "7"].map(|letter| letter.repeat(length));
    // For the few patterns that ask for more than a kind of letters; of a length that fits, too.
    let words = ["us-east-1", "Name"].map(str::to_owned);
    let fits = |word: &String| shape.pattern.is_none_or(|pattern| pattern.matches(word));
    letters.into_iter().chain(words).find(fits).expect("one of them fits every pattern")
}

/// Base64 of so many zeros.
fn blob(bytes: usize) -> String {
    let rest = ["", "AA==", "AAA="][bytes % 3];
    format!("{}{rest}", "AAAA".repeat(bytes / 3))
}

fn request(wild: bool) -> impl Strategy<Value = (usize, Value)> {
    let any_input = 0..inputs().len();
    any_input.prop_flat_map(move |i| (Just(i), value(inputs()[i].0, wild)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sound_request_passes_and_its_canonical_form_is_stable((i, request) in request(false)) {
        let (shape, operation, canonical) = inputs()[i];
        prop_assert_eq!(validate(shape, &request), Ok(()));
        let once = canonical(operation, request.clone()).unwrap();
        prop_assert_eq!(&once, &request);
        prop_assert_eq!(canonical(operation, once.clone()).unwrap(), once);
    }

    #[test]
    fn whatever_passes_validation_has_a_type_and_a_stable_form((i, request) in request(true)) {
        let (shape, operation, canonical) = inputs()[i];
        match validate(shape, &request) {
            Ok(()) => {
                let once = canonical(operation, request).unwrap();
                prop_assert_eq!(canonical(operation, once.clone()).unwrap(), once);
            }
            Err(error) => prop_assert_eq!(canonical(operation, request), Err(error)),
        }
    }

    #[test]
    fn any_json_can_be_held_against_any_shape(request in noise(), i in 0..inputs().len()) {
        let _ = validate(inputs()[i].0, &request);
    }

    #[test]
    fn what_serde_writes_is_read_back(value in noise()) {
        let text = serde_json::to_vec(&value).unwrap();
        prop_assert_eq!(json::parse(&text, text.len()).unwrap(), serde_json::from_slice::<Value>(&text).unwrap());
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = json::parse(&bytes, 200);
        let _ = api::query::Form::parse(&bytes);
        let _ = String::from_utf8_lossy(&bytes).parse::<api::Arn>();
    }
}

#[test]
fn every_pattern_of_the_models_compiles() {
    let mut seen = Vec::new();
    let outputs = codebuild::Operation::ALL.iter().map(|op| op.output());
    let outputs = outputs.chain(logs::Operation::ALL.iter().map(|op| op.output()));
    let outputs = outputs.chain(secretsmanager::Operation::ALL.iter().map(|op| op.output()));
    let outputs = outputs.chain(ssm::Operation::ALL.iter().map(|op| op.output()));
    let outputs = outputs.chain(sts::Operation::ALL.iter().map(|op| op.output()));
    for shape in inputs().into_iter().map(|(shape, ..)| shape).chain(outputs) {
        compile_patterns(shape, &mut seen);
    }
    assert!(seen.len() > 300, "only {} shapes were reached", seen.len());
}

fn compile_patterns(shape: &'static Shape, seen: &mut Vec<*const Shape>) {
    if seen.contains(&std::ptr::from_ref(shape)) {
        return;
    }
    seen.push(shape);
    if let Some(pattern) = shape.pattern {
        pattern.matches("");
    }
    match shape.kind {
        Kind::Structure(members) => members.iter().for_each(|member| compile_patterns(member.shape, seen)),
        Kind::List(element) => compile_patterns(element, seen),
        Kind::Map(key, entry) => [key, entry].into_iter().for_each(|shape| compile_patterns(shape, seen)),
        _ => {}
    }
}
