//! `batch`: which builds a build batch has, and whether they agree with each other.

use std::collections::{BTreeSet, HashMap};

use super::Context;
use super::env::{literals, variable_name};
use super::field::{Field, Section};
use crate::diagnostic::{Code, Error, excerpt, quoted};
use crate::limits;
use crate::model::{
    Batch, BatchBuild, BatchBuilds, BatchEnvironment, BuildMatrix, COMPUTE_TYPES, ENVIRONMENT_TYPES,
};
use crate::schema::{self, BATCH_KINDS, BATCH_PLACES};

/// Identifiers looked at for a guess; keeps large batches cheap.
const GUESSED_FROM: usize = 200;

/// COMPAT: BS-163 its errors are kept apart: a single build does not look at the section.
pub(super) fn read(field: &Field<'_>, context: &mut Context) -> Result<Batch, Error> {
    let before = context.findings.take_errors();
    let batch = batch(field, context);
    context.batch_errors = context.findings.take_errors();
    before.into_iter().for_each(|error| context.findings.refuse(error));
    match (context.batch_errors.first(), batch) {
        (None, Some(batch)) => Ok(batch),
        (Some(error), _) => Err(error.clone()),
        (None, None) => Err(contradiction(field, "batch has no builds")),
    }
}

fn batch(field: &Field<'_>, context: &mut Context) -> Option<Batch> {
    let section = Section::open(field, &schema::BATCH, context);
    let fast_fail = section.boolean("fast-fail", context);
    let kinds: Vec<&str> = BATCH_KINDS.iter().copied().filter(|kind| section.get(kind).is_some()).collect();
    // COMPAT: BS-161
    if kinds.len() != 1 {
        let found = if kinds.is_empty() { "none".to_owned() } else { kinds.join(" and ") };
        let message = format!("batch must have exactly one of {}: found {found}", BATCH_KINDS.join(", "));
        context.findings.refuse(contradiction(field, &message));
    }
    let builds = match *kinds.first()? {
        "build-list" => BatchBuilds::List(builds(&section.get("build-list")?, &schema::BATCH_BUILD, context)),
        "build-graph" => {
            BatchBuilds::Graph(builds(&section.get("build-graph")?, &schema::GRAPH_BUILD, context))
        }
        "build-matrix" => BatchBuilds::Matrix(matrix(&section.get("build-matrix")?, context)),
        _ => fanout(&section.get("build-fanout")?, context)?,
    };
    Some(Batch { fast_fail, builds })
}

fn builds(field: &Field<'_>, table: &'static schema::Table, context: &mut Context) -> Vec<BatchBuild> {
    let items = context.items(field);
    check_count(field, Some(items.len()), context);
    let builds: Vec<BatchBuild> =
        items.iter().take(limits::BATCH_BUILDS).map(|item| build(item, table, context)).collect();
    check_identifiers(&items, &builds, context);
    check_dependencies(&items, &builds, context);
    builds
}

fn check_count(field: &Field<'_>, count: Option<usize>, context: &mut Context) {
    let most = limits::BATCH_BUILDS;
    match count {
        Some(0) => context.findings.refuse(contradiction(field, &format!("{} has no builds", field.shown()))),
        Some(count) if count <= most => {}
        count => {
            let count = count.map_or_else(|| "very many".to_owned(), |count| count.to_string());
            let message = format!("Too many builds in {}: {count}. At most {most}", field.shown());
            context.findings.refuse(field.misnamed(Code::Limit, message));
        }
    }
}

fn build(field: &Field<'_>, table: &'static schema::Table, context: &mut Context) -> BatchBuild {
    let section = Section::open(field, table, context);
    section.require("identifier", context);
    let graph = table.key("depend-on").is_some();
    BatchBuild {
        identifier: section.text("identifier", context).unwrap_or_default(),
        buildspec: section.text("buildspec", context),
        debug_session: section.boolean("debug-session", context),
        env: section.open_in("env", context, environment).unwrap_or_default(),
        ignore_failure: section.boolean("ignore-failure", context),
        depend_on: if graph { section.texts("depend-on", context) } else { Vec::new() },
    }
}

fn environment(field: &Field<'_>, context: &mut Context) -> BatchEnvironment {
    let section = Section::open(field, &schema::BATCH_ENV, context);
    // COMPAT: BS-162
    if BATCH_PLACES.iter().all(|place| section.get(place).is_some()) {
        let message = format!("{} has both {}", field.shown(), BATCH_PLACES.join(" and "));
        context
            .findings
            .refuse(contradiction(field, &message).hint("A fleet has its compute type: remove one of them."));
    }
    BatchEnvironment {
        compute_type: section.read("compute-type", context, compute_type),
        fleet: section.text("fleet", context),
        image: section.text("image", context),
        privileged_mode: section.read("privileged-mode", context, Field::boolean),
        environment_type: section.read("type", context, environment_type),
        variables: section.open_in("variables", context, literals).unwrap_or_default(),
    }
}

fn compute_type(field: &Field<'_>) -> Result<String, Error> {
    known(field, COMPUTE_TYPES, "compute type")
}

fn environment_type(field: &Field<'_>) -> Result<String, Error> {
    known(field, ENVIRONMENT_TYPES, "environment type")
}

fn known(field: &Field<'_>, names: &[&str], what: &str) -> Result<String, Error> {
    let text = field.text()?;
    if names.contains(&text.as_str()) {
        return Ok(text);
    }
    let message = format!("Invalid {what}: {}. Expecting: {}", excerpt(&text), names.join(","));
    let finding = field.invalid(Code::Value, message);
    Err(
        match crate::suggest::nearest(&text, names).map(str::to_owned).or_else(|| sized_alike(&text, names)) {
            Some(name) => finding.hint(format!("Did you mean {name}?")),
            None => finding,
        },
    )
}

/// COMPAT: BS-172 the user guide's own slips, such as `ARM_LAMBDA_1GB`: only the size at the end can be trusted.
fn sized_alike(text: &str, names: &[&str]) -> Option<String> {
    let (before, size) = text.rsplit_once('_')?;
    let family =
        if before.to_ascii_uppercase().contains("LAMBDA") { "BUILD_LAMBDA" } else { "BUILD_GENERAL1" };
    let sizes: Vec<&str> =
        names.iter().filter_map(|name| name.strip_prefix(family)?.strip_prefix('_')).collect();
    Some(format!("{family}_{}", crate::suggest::nearest(size, &sizes)?))
}

fn matrix(field: &Field<'_>, context: &mut Context) -> BuildMatrix {
    let section = Section::open(field, &schema::MATRIX, context);
    let mut matrix = BuildMatrix::default();
    if let Some(fixed) = section.get("static") {
        let section = Section::open(&fixed, &schema::MATRIX_STATIC, context);
        matrix.ignore_failure = section.boolean("ignore-failure", context);
        if let Some(env) = section.get("env") {
            let section = Section::open(&env, &schema::MATRIX_STATIC_ENV, context);
            matrix.privileged_mode = section.read("privileged-mode", context, Field::boolean);
            matrix.environment_type = section.read("type", context, environment_type);
        }
    }
    if let Some(dynamic) = section.get("dynamic") {
        let section = Section::open(&dynamic, &schema::MATRIX_DYNAMIC, context);
        matrix.buildspecs = section.texts("buildspec", context);
        if let Some(env) = section.get("env") {
            let section = Section::open(&env, &schema::MATRIX_DYNAMIC_ENV, context);
            matrix.images = section.texts("image", context);
            matrix.compute_types = section
                .get("compute-type")
                .map(|field| context.each(&field, compute_type))
                .unwrap_or_default();
            matrix.variables = section.open_in("variables", context, choices).unwrap_or_default();
        }
    }
    check_count(field, matrix.count(), context);
    matrix
}

fn choices(field: &Field<'_>, context: &mut Context) -> Vec<(String, Vec<String>)> {
    let mut choices = Vec::new();
    for entry in context.entries(field) {
        let values = context.each(&entry, Field::text);
        if let Some(name) = context.findings.keep(variable_name(&entry)) {
            choices.push((name, values));
        }
    }
    choices
}

fn fanout(field: &Field<'_>, context: &mut Context) -> Option<BatchBuilds> {
    let section = Section::open(field, &schema::FANOUT, context);
    section.require("parallelism", context);
    let ignore_failure = section.boolean("ignore-failure", context);
    let parallelism = section.read("parallelism", context, parallelism)?;
    Some(BatchBuilds::Fanout { parallelism, ignore_failure })
}

fn parallelism(field: &Field<'_>) -> Result<usize, Error> {
    let text = field.text()?;
    let number = text.trim().parse().ok().filter(|number| (1..=limits::BATCH_BUILDS).contains(number));
    number.ok_or_else(|| {
        let rule = format!("Expecting: a number from 1 to {}", limits::BATCH_BUILDS);
        field.invalid(Code::Value, format_args!("Invalid {}: {}. {rule}", field.shown(), excerpt(&text)))
    })
}

fn check_identifiers(items: &[Field<'_>], builds: &[BatchBuild], context: &mut Context) {
    let mut lines: HashMap<&str, usize> = HashMap::new();
    for (item, build) in items.iter().zip(builds).filter(|(_, build)| !build.identifier.is_empty()) {
        let field = item.get("identifier").unwrap_or_else(|| item.clone());
        if let Some(line) = lines.insert(&build.identifier, field.span.line()) {
            let message = format!("Identifier {} is already that of line {line}", quoted(&build.identifier));
            context.findings.refuse(field.invalid(Code::Batch, message).hint("Give each build its own."));
        }
    }
}

fn check_dependencies(items: &[Field<'_>], builds: &[BatchBuild], context: &mut Context) {
    let numbers: HashMap<&str, usize> =
        builds.iter().enumerate().map(|(number, build)| (build.identifier.as_str(), number)).collect();
    for item in items.iter().take(builds.len()) {
        let Some(Ok(names)) = item.get("depend-on").map(|field| field.items()) else { continue };
        for name in &names {
            let Ok(text) = name.text() else { continue };
            if !numbers.contains_key(text.as_str()) {
                context.findings.refuse(unknown_dependency(name, &text, builds));
            }
        }
    }
    if let Some(number) = waits_for_itself(builds, &numbers) {
        let (item, build) = (&items[number], &builds[number]);
        let field = item.get("depend-on").unwrap_or_else(|| item.clone());
        let message = format!("Build {} waits for itself", quoted(&build.identifier));
        let finding = field.misnamed(Code::Batch, message);
        context.findings.refuse(finding.hint("Remove one of the dependencies that lead back to it."));
    }
}

fn unknown_dependency(field: &Field<'_>, name: &str, builds: &[BatchBuild]) -> Error {
    let finding = field.invalid(Code::Batch, format_args!("No build has the identifier {}", quoted(name)));
    let identifiers: Vec<&str> =
        builds.iter().take(GUESSED_FROM).map(|build| build.identifier.as_str()).collect();
    match crate::suggest::nearest(name, &identifiers) {
        Some(known) => finding.hint(format!("Did you mean {known}?")),
        None => finding,
    }
}

/// The first build that is never free to start, if there is one: taken away one after the other, those with nothing left to
/// wait for, only such remain as wait for each other, or for one of those.
fn waits_for_itself(builds: &[BatchBuild], numbers: &HashMap<&str, usize>) -> Option<usize> {
    let mut waits: Vec<Vec<usize>> = Vec::new();
    for build in builds {
        let named: BTreeSet<usize> =
            build.depend_on.iter().filter_map(|name| numbers.get(name.as_str()).copied()).collect();
        waits.push(named.into_iter().collect());
    }
    let mut over = vec![false; builds.len()];
    while let Some(free) =
        (0..builds.len()).find(|&at| !over[at] && waits[at].iter().all(|&other| over[other]))
    {
        over[free] = true;
    }
    let stuck: Vec<usize> = (0..builds.len()).filter(|&at| !over[at]).collect();
    // Of those, one that others wait for is in the circle rather than behind it; walking that way long enough ends in it.
    let mut at = *stuck.first()?;
    for _ in 0..builds.len() {
        at = *waits[at].iter().find(|&&other| !over[other])?;
    }
    Some(at)
}

fn contradiction(field: &Field<'_>, message: &str) -> Error {
    field.misnamed(Code::Batch, message)
}
