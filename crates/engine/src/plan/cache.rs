//! Where a build's cache is kept, and whose it is.

use agent::cache::{Owner, Scope};
use agent::plan::{Cache, Repositories, Trust};
use api::AccountId;
use api::codebuild::{CacheMode, CacheType, ComputeType, EnvironmentType, Project, ProjectCache};

use super::Request;
use crate::config::Config;
use crate::error::{Error, Result};

/// What builds that the server trusts share. Those of other people's changes will have domains of their own.
const TRUSTED: &str = "trusted";

/// COMPAT: SA-090..099.
pub(crate) fn cache(
    settings: &Project,
    account: &AccountId,
    generation: i64,
    config: &Config,
) -> Result<Cache> {
    let Some(cache) = &settings.cache else { return Ok(Cache::None) };
    let (scope, trust) = (scope(settings, cache, (account, generation), config), trust(settings, config));
    match cache.r#type {
        Some(CacheType::S3) => {
            let (bucket, prefix) = location(cache.location.as_deref().unwrap_or_default())?;
            Ok(Cache::Objects { objects: config.objects.clone(), bucket, prefix, scope, trust })
        }
        Some(CacheType::Local) if keeps_folders(cache) && can_be_local(settings) => {
            Ok(Cache::Layers { folder: config.caches.clone(), scope, trust })
        }
        _ => Ok(Cache::None),
    }
}

/// COMPAT: SA-096 `LOCAL_SOURCE_CACHE` keeps what was fetched from git servers.
pub(super) fn repositories(settings: &Project, request: &Request, config: &Config) -> Option<Repositories> {
    let cache = settings.cache.as_ref().filter(|cache| cache.r#type == Some(CacheType::Local))?;
    let is_wanted = cache.modes.iter().flatten().any(|mode| *mode == CacheMode::LocalSourceCache);
    let scope = scope(settings, cache, (&request.account, request.cache_generation), config);
    (is_wanted && can_be_local(settings)).then(|| Repositories {
        folder: config.repositories.join(scope.id()),
        trust: trust(settings, config),
    })
}

fn trust(settings: &Project, config: &Config) -> Trust {
    match settings.name.as_ref().is_some_and(|name| config.read_only_caches.contains(name)) {
        true => Trust::ReadOnly,
        false => Trust::Full,
    }
}

fn scope(
    settings: &Project,
    cache: &ProjectCache,
    (account, generation): (&AccountId, i64),
    config: &Config,
) -> Scope {
    Scope {
        account: account.to_string(),
        region: config.region.to_string(),
        owner: owner(cache, settings.name.clone().unwrap_or_default()),
        domain: TRUSTED.to_string(),
        generation,
    }
}

/// COMPAT: SA-093 a namespace is shared by the projects that name it, a cache without one is the project's own.
fn owner(cache: &ProjectCache, project: String) -> Owner {
    let namespace = cache.cache_namespace.as_ref().filter(|name| !name.is_empty());
    match namespace.filter(|_| cache.r#type == Some(CacheType::S3)) {
        Some(name) => Owner::Namespace(name.clone()),
        None => Owner::Project(project),
    }
}

/// COMPAT: SA-090 `bucket` or `bucket/prefix`, or the ARN of either.
fn location(text: &str) -> Result<(String, String)> {
    let plain = text.strip_prefix("arn:aws:s3:::").unwrap_or(text).trim_end_matches('/');
    let (bucket, prefix) = plain.split_once('/').unwrap_or((plain, ""));
    match bucket.is_empty() {
        true => Error::invalid("Invalid cache: location must be a valid S3 bucket, with or without a prefix"),
        false => Ok((bucket.to_string(), prefix.to_string())),
    }
}

/// Docker's layers are of what no build here has; repositories are kept apart.
fn keeps_folders(cache: &ProjectCache) -> bool {
    cache.modes.iter().flatten().any(|mode| *mode == CacheMode::LocalCustomCache)
}

/// COMPAT: SA-097 elsewhere there is silently no local cache.
fn can_be_local(settings: &Project) -> bool {
    let environment = settings.environment.as_ref();
    let is_gpu = environment.is_some_and(|it| it.r#type == Some(EnvironmentType::LinuxGpuContainer));
    let is_huge = environment.is_some_and(|it| it.compute_type == Some(ComputeType::BuildGeneral1_2xlarge));
    let vpc = settings.vpc_config.as_ref().and_then(|vpc| vpc.vpc_id.as_deref());
    !is_gpu && !is_huge && vpc.is_none_or(str::is_empty)
}
