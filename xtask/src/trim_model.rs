//! `trim-model`: a small committed model from a service's full one.
//!
//! Keeps the operations named (all, if none are) and the shapes they reach, and drops documentation.
//! Where the full models come from is written in `crates/api/models/NOTICE.md`.

use std::path::Path;

use crate::error::{Error, at};
use crate::model::{Model, Operation};

pub(crate) const USAGE: &str = "<service-2.json> <trimmed.json> [Operation]...";

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let [full, trimmed, operations @ ..] = arguments else {
        return Err(Error::Usage(format!("  cargo xtask trim-model {USAGE}")));
    };
    let model = trim(Model::read(Path::new(full))?, operations)?;
    let mut text = serde_json::to_string_pretty(&model).expect("a model has string keys only");
    text.push('\n');
    std::fs::write(trimmed, text).map_err(at(Path::new(trimmed)))
}

fn trim(mut model: Model, operations: &[String]) -> Result<Model, Error> {
    if let Some(missing) = operations.iter().find(|name| model.operations.get(name).is_none()) {
        return Err(Error::Unsupported(format!("the model has no operation `{missing}`")));
    }
    if !operations.is_empty() {
        model.operations.0.retain(|(name, _)| operations.contains(name));
    }
    let reachable: Vec<String> = {
        let roots = model.operations.iter().flat_map(|(_, operation)| roots(operation));
        model.reachable(roots).into_iter().map(str::to_owned).collect()
    };
    model.shapes.0.retain(|(name, _)| reachable.contains(name));
    Ok(model)
}

fn roots(operation: &Operation) -> impl Iterator<Item = &str> {
    operation.payloads().chain(operation.errors())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{
        "metadata": {"apiVersion": "1", "endpointPrefix": "x", "protocols": ["json"], "serviceFullName": "X"},
        "operations": {
            "Zig": {"name": "Zig", "input": {"shape": "ZigInput"}, "errors": [{"shape": "Oops"}]},
            "Zag": {"name": "Zag", "input": {"shape": "ZagInput"}}
        },
        "shapes": {
            "ZigInput": {"type": "structure", "members": {"b": {"shape": "Text"}, "a": {"shape": "Text"}}},
            "ZagInput": {"type": "structure", "members": {"n": {"shape": "Number"}}},
            "Text": {"type": "string", "documentation": "Long prose."},
            "Number": {"type": "integer"},
            "Oops": {"type": "structure", "members": {}, "exception": true}
        }
    }"#;

    #[test]
    fn only_the_named_operations_and_what_they_reach_remain_in_the_models_order() {
        let model = trim(serde_json::from_str(FULL).unwrap(), &["Zig".into()]).unwrap();
        let shapes: Vec<_> = model.shapes.iter().map(|(name, _)| name).collect();
        assert_eq!(shapes, ["ZigInput", "Text", "Oops"]);
        let members: Vec<_> = model.shape("ZigInput").unwrap().members().map(|(name, _)| name).collect();
        assert_eq!(members, ["b", "a"]);
        assert!(!serde_json::to_string(&model).unwrap().contains("prose"));
    }

    #[test]
    fn naming_an_operation_the_model_does_not_have_is_refused() {
        assert!(trim(serde_json::from_str(FULL).unwrap(), &["Zug".into()]).is_err());
    }
}
