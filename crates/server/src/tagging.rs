//! GetResources of the Resource Groups Tagging API: which projects bear which tags.
//!
//! Asked of CodeBuild's own operations in the caller's account. COMPAT: whoever may `tag:GetResources` is told of every project that bears
//! tags, and needs no right to read it besides. Nothing else of that API is here.

use std::future::Future;

use api::ServiceError;
use api::codebuild::{BatchGetProjectsOutput, ListProjectsOutput, Operation, Project};
use api::tagging::{GetResourcesInput, GetResourcesOutput, ResourceTagMapping, Tag, TagFilter};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Resources of a page unless it is asked for fewer. As many as a page of ListProjects and a BatchGetProjects hold.
const PAGE_MAX: usize = 100;

/// The answer to GetResources. `ask` does an operation of CodeBuild for the same caller.
///
/// # Errors
/// InvalidParameterException for what the model does not forbid and this cannot do; what `ask` answers.
pub(crate) async fn get_resources<Ask, Asked>(
    request: Value,
    ask: Ask,
) -> Result<GetResourcesOutput, ServiceError>
where
    Ask: Fn(Operation, Value) -> Asked,
    Asked: Future<Output = Result<Value, ServiceError>>,
{
    let input: GetResourcesInput =
        serde_json::from_value(request).map_err(|error| ServiceError::serialization(error.to_string()))?;
    check(&input)?;
    let filters = input.tag_filters.unwrap_or_default();
    let (found, next) = match input.resource_arn_list {
        Some(arns) if !arns.is_empty() => (projects(&ask, arns).await?, None),
        _ if !wants_projects(input.resource_type_filters.as_deref()) => (Vec::new(), None),
        _ => {
            let place = Place::read(input.pagination_token.as_deref())?;
            let most = per_page(input.resources_per_page)?;
            page(&ask, place, most, |project| matches(project, &filters)).await?
        }
    };
    let found = found.into_iter().filter(|project| matches(project, &filters)).map(mapping);
    Ok(GetResourcesOutput {
        // COMPAT: the last page has an empty token.
        pagination_token: Some(next.map(|place| place.token()).unwrap_or_default()),
        resource_tag_mapping_list: Some(found.collect()),
    })
}

fn check(input: &GetResourcesInput) -> Result<(), ServiceError> {
    let asked = |member: Option<bool>| member == Some(true);
    let names = input.resource_arn_list.as_ref().is_some_and(|arns| !arns.is_empty());
    let pages =
        input.resources_per_page.is_some() || input.pagination_token.as_ref().is_some_and(|t| !t.is_empty());
    let narrowed = input.tag_filters.is_some() || input.resource_type_filters.is_some();
    if names && (pages || narrowed) {
        return invalid("ResourceARNList cannot be combined with filters or pages");
    }
    if input.tags_per_page.is_some() {
        return invalid("TagsPerPage is not available in this version");
    }
    if asked(input.include_compliance_details) || asked(input.exclude_compliant_resources) {
        return invalid("Compliance with tag policies is not available in this version");
    }
    Ok(())
}

fn per_page(asked: Option<i32>) -> Result<usize, ServiceError> {
    let asked = asked.map_or(Some(PAGE_MAX), |asked| usize::try_from(asked).ok());
    match asked {
        Some(asked @ 1..=PAGE_MAX) => Ok(asked),
        _ => invalid(format!("ResourcesPerPage must be from 1 to {PAGE_MAX}")),
    }
}

/// COMPAT: a type is a service, or a service and a kind of resource.
fn wants_projects(types: Option<&[String]>) -> bool {
    types.is_none_or(|types| {
        types.is_empty() || types.iter().any(|one| matches!(one.as_str(), "codebuild" | "codebuild:project"))
    })
}

/// COMPAT: every filter's key must be there, with any of its values if it has some; what bears no tag is not told of.
fn matches(project: &Project, filters: &[TagFilter]) -> bool {
    let tags = project.tags.as_deref().unwrap_or_default();
    let has = |filter: &TagFilter| {
        let values = filter.values.as_deref().unwrap_or_default();
        tags.iter().any(|tag| {
            tag.key == filter.key
                && (values.is_empty() || tag.value.as_ref().is_some_and(|value| values.contains(value)))
        })
    };
    !tags.is_empty() && filters.iter().all(has)
}

fn mapping(project: Project) -> ResourceTagMapping {
    let tags = project.tags.unwrap_or_default().into_iter().map(|tag| Tag { key: tag.key, value: tag.value });
    ResourceTagMapping { resource_arn: project.arn, tags: Some(tags.collect()), compliance_details: None }
}

/// Where a page begins: so many resources into a page of ListProjects.
#[derive(Debug, Default, PartialEq, Eq)]
struct Place {
    skipped: usize,
    token: Option<String>,
}

impl Place {
    fn read(token: Option<&str>) -> Result<Place, ServiceError> {
        let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(Place::default()) };
        let parts = token.split_once(':').and_then(|(skipped, token)| Some((skipped.parse().ok()?, token)));
        match parts {
            Some((skipped, token)) => {
                Ok(Place { skipped, token: (!token.is_empty()).then(|| token.to_owned()) })
            }
            None => invalid("PaginationToken is not one of an earlier answer"),
        }
    }

    fn token(&self) -> String {
        format!("{}:{}", self.skipped, self.token.as_deref().unwrap_or_default())
    }
}

/// The wanted projects of a page, and where the next one begins.
async fn page<Ask, Asked>(
    ask: &Ask,
    place: Place,
    most: usize,
    wanted: impl Fn(&Project) -> bool,
) -> Result<(Vec<Project>, Option<Place>), ServiceError>
where
    Ask: Fn(Operation, Value) -> Asked,
    Asked: Future<Output = Result<Value, ServiceError>>,
{
    let request = json!({ "sortBy": "NAME", "sortOrder": "ASCENDING", "nextToken": place.token });
    let listed: ListProjectsOutput = typed(ask(Operation::ListProjects, request).await?)?;
    let mut found = projects(ask, listed.projects.unwrap_or_default()).await?;
    found.retain(wanted);
    let rest = found.split_off(place.skipped.min(found.len()));
    let next = match listed.next_token {
        _ if rest.len() > most => Some(Place { skipped: place.skipped + most, ..place }),
        Some(token) => Some(Place { skipped: 0, token: Some(token) }),
        None => None,
    };
    Ok((rest.into_iter().take(most).collect(), next))
}

/// The projects of these names or ARNs, in order of their names.
async fn projects<Ask, Asked>(ask: &Ask, names: Vec<String>) -> Result<Vec<Project>, ServiceError>
where
    Ask: Fn(Operation, Value) -> Asked,
    Asked: Future<Output = Result<Value, ServiceError>>,
{
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let answer = ask(Operation::BatchGetProjects, json!({ "names": names })).await?;
    let answer: BatchGetProjectsOutput = typed(answer)?;
    let mut found = answer.projects.unwrap_or_default();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

fn typed<T: DeserializeOwned>(answer: Value) -> Result<T, ServiceError> {
    serde_json::from_value(answer).map_err(|_| ServiceError::internal_failure())
}

fn invalid<T>(message: impl Into<String>) -> Result<T, ServiceError> {
    Err(ServiceError::new("InvalidParameterException", message.into(), 400))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CodeBuild with three projects to a page: of ten, those with an even number bear tags.
    async fn ask(operation: Operation, request: Value) -> Result<Value, ServiceError> {
        const PROJECTS: usize = 10;
        const LISTED: usize = 3;
        let numbers = match operation {
            Operation::ListProjects => {
                let first = request["nextToken"].as_str().map_or(0, |token| token.parse().unwrap());
                let names: Vec<_> = (first..PROJECTS.min(first + LISTED)).map(|n| format!("p{n}")).collect();
                let next = (first + LISTED < PROJECTS).then(|| (first + LISTED).to_string());
                return Ok(json!({ "projects": names, "nextToken": next }));
            }
            _ => request["names"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|name| name.as_str()?.strip_prefix('p')),
        };
        let project = |n: &str| {
            let number: usize = n.parse().unwrap();
            let tags = json!([{ "key": "even", "value": n }, { "key": "all", "value": "" }]);
            let tags = if number.is_multiple_of(2) { tags } else { json!([]) };
            json!({ "name": format!("p{n}"), "arn": format!("p{n}"), "tags": tags })
        };
        Ok(json!({ "projects": numbers.map(project).collect::<Vec<_>>() }))
    }

    async fn arns(request: Value) -> Result<(Vec<String>, String), ServiceError> {
        let answer = get_resources(request, ask).await?;
        let arns = answer.resource_tag_mapping_list.unwrap().into_iter().filter_map(|one| one.resource_arn);
        Ok((arns.collect(), answer.pagination_token.unwrap()))
    }

    async fn all(mut request: Value) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            let (page, token) = arns(request.clone()).await.unwrap();
            found.extend(page);
            if token.is_empty() {
                return found;
            }
            request["PaginationToken"] = token.into();
        }
    }

    #[tokio::test]
    async fn every_tagged_project_is_on_one_page_whatever_the_pages_length() {
        for most in [1, 2, 3, 100] {
            let found = all(json!({ "ResourcesPerPage": most })).await;
            assert_eq!(found, ["p0", "p2", "p4", "p6", "p8"], "{most} a page");
        }
    }

    #[tokio::test]
    async fn filters_all_have_to_match_with_any_of_their_values() {
        let filtered = |filters: Value| async move { all(json!({ "TagFilters": filters })).await };
        assert_eq!(filtered(json!([{ "Key": "even", "Values": ["2", "3", "8"] }])).await, ["p2", "p8"]);
        assert_eq!(filtered(json!([{ "Key": "all" }, { "Key": "even", "Values": ["4"] }])).await, ["p4"]);
        assert!(filtered(json!([{ "Key": "none" }])).await.is_empty());
        assert!(all(json!({ "ResourceTypeFilters": ["s3", "codebuild:fleet"] })).await.is_empty());
        assert_eq!(all(json!({ "ResourceTypeFilters": ["codebuild"] })).await.len(), 5);
    }

    #[tokio::test]
    async fn resources_may_be_named() {
        let named = arns(json!({ "ResourceARNList": ["p4", "p1", "p2", "elsewhere"] })).await.unwrap();
        assert_eq!(named, (vec!["p2".to_owned(), "p4".to_owned()], String::new()));
    }

    #[tokio::test]
    async fn what_cannot_be_done_is_refused_by_name() {
        for (request, said) in [
            (json!({ "ResourceARNList": ["p1"], "ResourcesPerPage": 1 }), "ResourceARNList"),
            (json!({ "ResourcesPerPage": 0 }), "ResourcesPerPage"),
            (json!({ "ResourcesPerPage": 101 }), "ResourcesPerPage"),
            (json!({ "TagsPerPage": 100 }), "TagsPerPage"),
            (json!({ "IncludeComplianceDetails": true }), "Compliance"),
            (json!({ "PaginationToken": "made up" }), "PaginationToken"),
            (json!({ "PaginationToken": "-1:" }), "PaginationToken"),
        ] {
            let refusal = arns(request).await.unwrap_err();
            assert_eq!(refusal.code, "InvalidParameterException");
            assert!(refusal.message.contains(said), "{}", refusal.message);
        }
    }
}
