//! `schema`: `docs/buildspec.schema.json`, for editors. What it says is `buildspec`'s; here it is written or compared.

use std::path::PathBuf;

use crate::error::{Error, at};

pub(crate) const USAGE: &str = "[--check]";

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    match arguments {
        [] => std::fs::write(path(), buildspec::json_schema()).map_err(at(&path())),
        [flag] if flag == "--check" => check(),
        _ => Err(Error::Usage(format!("  cargo xtask schema {USAGE}"))),
    }
}

fn check() -> Result<(), Error> {
    let committed = std::fs::read_to_string(path()).map_err(at(&path()))?;
    if committed == buildspec::json_schema() {
        return Ok(());
    }
    Err(Error::Stale { command: "schema", files: vec![path().display().to_string()] })
}

fn path() -> PathBuf {
    crate::root().join("docs/buildspec.schema.json")
}

#[cfg(test)]
mod tests {
    use crate::model::Model;

    #[test]
    fn the_committed_schema_is_what_the_reader_knows() {
        super::check().unwrap();
    }

    // BS-162, BS-172
    #[test]
    fn a_batch_knows_the_compute_types_of_the_service() {
        let model = Model::read(&crate::root().join("crates/api/models/codebuild.json")).unwrap();
        let values = |shape| &model.shapes.get(shape).unwrap().values;
        assert_eq!(values("ComputeType"), buildspec::COMPUTE_TYPES);
        assert_eq!(values("EnvironmentType"), buildspec::ENVIRONMENT_TYPES);
    }
}
