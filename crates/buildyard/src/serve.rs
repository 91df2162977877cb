//! `buildyard serve`: opens the data folder, wires engine and endpoints together, serves until told to stop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agent::plan::Fetching;
use engine::config::{
    BuildEndpoint, Config, Image, Puller, ResolveImage, RoleRights, WantedImage, is_curated, meant,
};
use engine::references::{FromAws, FromHere, References};
use engine::{Engine, clock::Clock};
use executor::{Docker, Embedded, Executor};
use server::{CodeBuild, Endpoint, Keys, Logs, Parameters, Roles, S3, Secrets, Services, Tokens};
use store::records::{Records, Vault};

use crate::admin::door::Door;
use crate::aws_environment::{Environment, Overrides};
use crate::collector::Collector;
use crate::config::{
    self, DockerSetting, FetchingNetwork, Flags, ForwardLogs, NetworkSetting, ReferencesFrom, Settings,
};
use crate::forwarding::{CloudWatch, Forwarding, OpenTelemetry, Sink};
use crate::images;
use crate::opening::{self, Opened};
use crate::pulls::{Logins, Places, Pulled, Pulls, Wanted};
use crate::users::Users;
use crate::watching::{self, Watching};

/// Variables of ours that no process of ours is given.
const SECRETS: [&str; 7] = [
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "BUILDYARD_DATABASE",
    "BUILDYARD_SECRET_ACCESS_KEY",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_LOGS_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
];

/// Serves until SIGINT or SIGTERM. Builds that run then go on, and the next server takes them up.
pub(crate) fn serve(flags: Flags) -> Result<(), String> {
    let mut settings = Settings::read(flags)?;
    let users = std::mem::take(&mut settings.users).read(&settings.account)?;
    watching::start_log(settings.log_format);
    // As many threads as the machine has processors, and no more: an idle server should be small.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| e.to_string())?;
    let collector = Collector::of("traces", settings.traces_endpoint.as_deref())?;
    let (watching, sending) = Watching::start(collector)?;
    let served = runtime.block_on(serve_until_stopped(&settings, users, &watching));
    if let Some(sending) = sending {
        sending.finish();
    }
    served
}

async fn serve_until_stopped(settings: &Settings, users: Users, watching: &Watching) -> Result<(), String> {
    let data = &settings.data;
    make_data_folder(data)?;
    prepare_network(settings)?;
    prepare_disks(settings)?;
    let listener = server::listen(settings.listen).await.map_err(|e| e.to_string())?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;

    let bell = server::logs::Wakes::new();
    let secrets = SECRETS.iter().copied().chain(users.secret_variables.iter().map(String::as_str));
    let secrets: Vec<String> = secrets.map(Into::into).collect();
    let mut config = engine_config(settings, bell.clone())?;
    config.images = resolve_image(settings, &secrets);
    let clock = config.clock.clone();
    let opened = opening::open(settings, clock.now_ms().div_euclid(1_000), &listener).await?;
    let Opened { records, vault, objects, .. } = opened;
    config.elsewhere = opened.elsewhere;
    config.references = references(settings, &vault, config.clock.clone())?;
    let roles = users.roles.clone();
    let policies =
        move |account: &str, role: &str| roles.get(&(account.to_owned(), role.to_owned())).cloned();
    let roles = Roles::new(&vault.derived_key("builds' credentials"), policies);
    config.endpoint = Some(build_endpoint(opening::builds_socket(data), roles.clone()));
    let roles_of_builds = roles.clone();
    config.roles = RoleRights::new(move |account, build, role| roles_of_builds.rights(account, build, role));
    config.tell_builds = watching.tell_builds();
    let mut options = executor::embedded::Options::new(data.join("builds"));
    // A place that falls free is taken at once by an agent that is ready, while more are in the making.
    options.warm = config.concurrent_builds + 2;
    options.hidden = secrets.into_iter().map(Into::into).collect();
    let executor = Place::open(settings, options).await?;
    if let Place::Docker(docker) = &executor {
        config.images = images_of_docker(docker, settings);
    }
    let engine = Engine::start(config, records.clone(), vault.clone(), executor.shared())
        .await
        .map_err(|e| e.to_string())?;

    // Whoever watches must not keep the agents waiting: they leave with the executor.
    watching.ask(&engine, executor.waiting_agents());
    drop(executor);
    if let Some(address) = settings.metrics_listen {
        watching.serve_metrics(address).await?;
    }

    let keys = Keys::new();
    let keeper = Door {
        vault: vault.clone(),
        users,
        first: opened.first_key,
        keys: keys.clone(),
        clock: clock.clone(),
        engine: engine.clone(),
    };
    keeper.load().await?;
    let tokens = Tokens::new(&vault.derived_key("paging tokens"));
    let ready = Arc::new(AtomicBool::new(true));
    let clock_of_logs = clock.clone();
    let now: server::time::Clock = Arc::new(move || clock.now_ms());
    let region = settings.region.as_str();
    let logs = Logs::new(records.clone(), data.join("logs"), region, now.clone(), bell);
    let forwarding = forwarding(settings, &records, clock_of_logs)?;
    if let Some(forwarding) = &forwarding {
        watching.count_forwarded(forwarding.counts.clone());
    }
    let services = Services {
        codebuild: CodeBuild::of(engine.clone()),
        logs: logs.clone(),
        parameters: Parameters::new(vault.clone(), region, now.clone()),
        s3: S3::new(
            objects,
            keys.clone(),
            region,
            &settings.account,
            vec!["localhost".to_owned()],
            tokens.clone(),
        ),
        secrets: Secrets::new(vault, region, now.clone()),
    };
    let behind_the_door = server::Settings {
        region: settings.region.clone(),
        skew_seconds: 300,
        keys,
        clock: now,
        tokens,
        ready: watching::ready(ready.clone(), records.clone(), data),
        roles,
        replays: opened.replays,
        metrics: watching.metrics.clone(),
    };
    let s3 = services.s3.clone();
    let clock_of_uploads = behind_the_door.clock.clone();
    let endpoint = Endpoint::new(behind_the_door, services);
    let url = format!("http://{address}");
    // Most of what has run so far is for starting alone. Where that is not possible, it stays.
    let _ = container::release_code();
    opening::note_endpoint(data, &url);
    greet(settings, &url);

    let lost = AtomicBool::new(false);
    let stop = async {
        tokio::select! {
            () = stopped(ready.clone()) => {}
            () = records.taken_over() => {
                ready.store(false, Ordering::Relaxed);
                lost.store(true, Ordering::Relaxed);
            }
        }
    };
    tokio::select! {
        () = server::serve(listener, Some(opened.for_builds), Arc::new(endpoint), stop) => {}
        () = keeper.answer(opened.admin) => {}
        () = logs.keep_retention() => {}
        () = s3.abort_old_uploads(clock_of_uploads) => {}
        () = forward(forwarding.as_ref()) => {}
    }
    if lost.load(Ordering::Relaxed) {
        return Err("another server has taken over the database; this one leaves everything to it".into());
    }
    engine.shut_down().await;
    Ok(())
}

/// Where builds run.
enum Place {
    Embedded(Arc<Embedded>),
    Docker(Arc<Docker>),
}

impl Place {
    async fn open(settings: &Settings, agents: executor::embedded::Options) -> Result<Place, String> {
        let Some(DockerSetting { socket, init }) = settings.docker.clone() else {
            return Ok(Place::Embedded(Arc::new(Embedded::open(agents).map_err(|e| e.to_string())?)));
        };
        let opened = Docker::open(executor::docker::Options { agents, socket, init }).await;
        Ok(Place::Docker(Arc::new(opened.map_err(|e| format!("executor = \"docker\": {e}"))?)))
    }

    fn shared(&self) -> Arc<dyn Executor> {
        match self {
            Place::Embedded(embedded) => embedded.clone(),
            Place::Docker(docker) => docker.clone(),
        }
    }

    /// How many there are; none once the executor is gone, which this does not keep.
    fn waiting_agents(&self) -> Box<dyn Fn() -> usize + Send + Sync> {
        match self {
            Place::Embedded(embedded) => {
                let watched = Arc::downgrade(embedded);
                Box::new(move || watched.upgrade().map_or(0, |executor| executor.waiting_agents()))
            }
            Place::Docker(docker) => {
                let watched = Arc::downgrade(docker);
                Box::new(move || watched.upgrade().map_or(0, |executor| executor.waiting_agents()))
            }
        }
    }
}

/// The daemon finds images and fetches them. What a project names itself is never a path there.
fn images_of_docker(docker: &Arc<Docker>, settings: &Settings) -> ResolveImage {
    let (docker, mapped) = (Arc::downgrade(docker), settings.images.clone());
    ResolveImage::new(move |WantedImage { name, puller }| {
        let mapped = meant(&name, mapped.keys()).map(|meant| mapped[meant].clone());
        let docker = docker.clone();
        async move {
            if mapped.is_none() && matches!(puller, Puller::Project(Some(_))) {
                return Err(format!(
                    "{name}: the docker executor has no use for registryCredential: its daemon pulls"
                ));
            }
            let name = mapped.unwrap_or(name);
            let docker = docker.upgrade().ok_or("the server is about to end")?;
            let image = docker.image(&name).await.map_err(|e| e.to_string())?;
            Ok(Image { rootfs: agent::plan::Rootfs::Image(image.id), variables: image.variables, held: None })
        }
    })
}

/// Who forwards builds' logs, if anybody is to.
fn forwarding(
    settings: &Settings,
    records: &Records,
    clock: Arc<dyn Clock>,
) -> Result<Option<Forwarding>, String> {
    let sink = match settings.forward_logs.clone() {
        None => return Ok(None),
        Some(ForwardLogs::CloudWatch { endpoint, region, profile }) => {
            let config = Environment::ours().config(&Overrides { endpoint, region, profile });
            let config =
                config.map_err(|reason| format!("forward_logs.to is \"cloudwatch\", but {reason}"))?;
            Sink::CloudWatch(CloudWatch { client: aws::Client::new(config) })
        }
        Some(ForwardLogs::OpenTelemetry { endpoint }) => {
            let collector = Collector::of("logs", endpoint.as_deref())?.ok_or(
                "forward_logs.to is \"opentelemetry\", but neither forward_logs.endpoint nor OTEL_EXPORTER_OTLP_ENDPOINT says where",
            )?;
            Sink::OpenTelemetry(OpenTelemetry::new(collector)?)
        }
    };
    let (records, logs) = (records.clone(), settings.data.join("logs"));
    Ok(Some(Forwarding { records, logs, sink, clock, counts: Arc::default() }))
}

async fn forward(forwarding: Option<&Forwarding>) {
    match forwarding {
        Some(forwarding) => forwarding.run().await,
        None => std::future::pending().await,
    }
}

fn build_endpoint(socket: PathBuf, roles: Roles) -> BuildEndpoint {
    BuildEndpoint { socket, credentials: Arc::new(move |build| roles.path(build)) }
}

fn make_data_folder(data: &Path) -> Result<(), String> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.map_err(|e| {
        format!("cannot make the data folder {}: {e}; choose another with --data", data.display())
    })
}

fn greet(settings: &Settings, url: &str) {
    let network = match settings.network {
        NetworkSetting::None => "none (set network = \"egress\" or \"host\" for builds that download)",
        NetworkSetting::Egress => "egress",
        NetworkSetting::Host => "host",
    };
    eprintln!(
        "Buildyard serves CodeBuild, S3, CloudWatch Logs, Parameter Store, Secrets Manager and STS on {url}"
    );
    eprintln!(
        "  account {}, region {}, data in {}",
        settings.account,
        settings.region,
        settings.data.display()
    );
    eprintln!("  network of builds: {network}");
    eprintln!("  point a shell at it:  eval \"$(buildyard env --data {})\"", settings.data.display());
}

fn engine_config(settings: &Settings, bell: server::logs::Wakes) -> Result<Config, String> {
    let region = settings.region.parse().map_err(|e| format!("region: {e}"))?;
    let mut config = Config::new(region, settings.data.join("s3"), settings.data.join("logs"));
    config.default_account = Some(settings.account.parse().map_err(|e| format!("account: {e}"))?);
    if let Some(builds) = settings.concurrent_builds {
        config.concurrent_builds = builds;
    }
    config.concurrent_builds_of.clone_from(&settings.concurrent_builds_of);
    config.sizes.clone_from(&settings.sizes);
    config.read_only_caches.clone_from(&settings.read_only_caches);
    config.forward_logs = settings.forward_logs.is_some();
    if let Some(builds) = settings.queued_builds {
        config.queued_builds = builds;
    }
    if let Some(mebibytes) = settings.log_quota_mebibytes {
        config.log_quota_bytes = Some(mebibytes.saturating_mul(1 << 20));
    }
    if settings.docker.is_some() {
        // The daemon's containers have images; none of them is this host.
        config.host_images.clear();
    }
    if let Some(images) = &settings.host_images {
        config.host_images.clone_from(images);
    }
    config.host_shared.clone_from(&settings.host_shared);
    config.host_variables.extend(settings.host_variables.clone());
    config.network = network(settings.network);
    config.vpc_network = settings.vpc_network.map(network);
    config.fetching = Fetching { own_network: own_network(settings)?, ..settings.fetching.clone() };
    config.codecommit = settings.codecommit.as_ref().map(codecommit).transpose()?;
    config.privileged = settings.privileged;
    config.mapped_images = settings.images.keys().cloned().collect();
    config.log_grew =
        engine::config::LogGrew::new(move |account, group, stream| bell.ring(account, group, stream));
    Ok(config)
}

fn network(setting: NetworkSetting) -> agent::plan::Network {
    match setting {
        NetworkSetting::None => agent::plan::Network::None,
        NetworkSetting::Egress => agent::plan::Network::Egress,
        NetworkSetting::Host => agent::plan::Network::Host,
    }
}

/// Makes the host ready for builds whose network leads out, if there can be any.
fn prepare_network(settings: &Settings) -> Result<(), String> {
    let is_wanted = settings.docker.is_none()
        && [Some(settings.network), settings.vpc_network].contains(&Some(NetworkSetting::Egress));
    match is_wanted {
        true => container::prepare_egress(&settings.network_allow)
            .map_err(|e| format!("network = \"egress\": {e}")),
        false if !settings.network_allow.is_empty() => {
            Err("network_allow has a meaning only with network or vpc_network = \"egress\"".into())
        }
        false => Ok(()),
    }
}

/// Whether sources are fetched in networks of their own: where the host can make them, unless the operator says which it is. A server that
/// is reached by this host's loopback, or by version 6, is not reached from there.
fn own_network(settings: &Settings) -> Result<bool, String> {
    if settings.fetching_network == Some(FetchingNetwork::Host) {
        return Ok(false);
    }
    let allow = &settings.fetching.allow;
    let is_reached = |text: &&String| text.parse().is_ok_and(source::Network::is_reached_from_elsewhere);
    let unreached = allow.iter().find(|text| !is_reached(text));
    let made = match unreached {
        Some(network) => Err(format!("{network} of sources.allow is reached by the host's network only")),
        None => container::prepare_fetching(allow).map_err(|e| e.to_string()),
    };
    match (made, settings.fetching_network) {
        (Ok(()), _) => Ok(true),
        (Err(why), Some(_)) => Err(format!("sources.network = \"own\": {why}")),
        (Err(why), None) => {
            tracing::info!(%why, "sources are fetched by the host's network");
            Ok(false)
        }
    }
}

/// As whom CodeCommit knows the operator.
fn codecommit(setting: &config::CodeCommit) -> Result<aws::CodeCommit, String> {
    let overrides =
        Overrides { endpoint: None, region: setting.region.clone(), profile: setting.profile.clone() };
    let found = Environment::ours().codecommit(&overrides, setting.endpoint.clone());
    found.map_err(|reason| format!("sources.codecommit: {reason}"))
}

/// Makes the host ready for builds with disks of a fixed size, or says why it cannot have any.
fn prepare_disks(settings: &Settings) -> Result<(), String> {
    let sized = settings.sizes.iter().filter_map(|(name, size)| Some((name, size.disk_bytes?)));
    for (name, bytes) in sized {
        container::prepare_disk(bytes).map_err(|e| format!("compute_types.{name}.disk: {e}"))?;
    }
    Ok(())
}

/// Images are unpacked below the data folder, once each. Only the operator may name files of this host: what a
/// project names itself is looked for in a registry.
fn resolve_image(settings: &Settings, secrets: &[String]) -> ResolveImage {
    let (mapped, allowed) = (settings.images.clone(), settings.images_allow.clone());
    let pulls = Pulls::new(&settings.data, settings.images_quota, secrets.to_vec());
    ResolveImage::new(move |WantedImage { name, puller }| {
        let mapped = meant(&name, mapped.keys()).map(|meant| mapped[meant].clone());
        let (pulls, allowed) = (pulls.clone(), allowed.clone());
        async move {
            let wanted = match (mapped, puller) {
                // Where it is, the operator has said.
                (Some(reference), _) => Wanted {
                    reference: images::local_first(&reference),
                    by: Logins::Ours,
                    places: Places::Anywhere,
                },
                (None, _) if is_curated(&name) => return Err(not_there(&name)),
                (None, puller) => Wanted {
                    reference: images::only_remote(name)?,
                    by: logins(puller),
                    places: Places::Public { and: allowed },
                },
            };
            let Pulled { rootfs, variables, held } = pulls.pull(wanted).await?;
            Ok(Image { rootfs: agent::plan::Rootfs::Unpacked(rootfs), variables, held: Some(held) })
        }
    })
}

fn logins(puller: Puller) -> Logins {
    match puller {
        Puller::Server => Logins::Ours,
        Puller::Project(login) => Logins::Project(login.map(|login| (login.username, login.password))),
    }
}

/// No registry has CodeBuild's own images.
fn not_there(curated: &str) -> String {
    format!(
        "{curated} is not there: images and host.images of the server's configuration say which curated images are"
    )
}

/// Where builds find what they refer to.
fn references(
    settings: &Settings,
    vault: &Vault,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn References>, String> {
    let references = &settings.references;
    match references.from {
        ReferencesFrom::Here => Ok(Arc::new(FromHere::new(vault.clone(), clock))),
        ReferencesFrom::Aws => {
            let config = Environment::ours().config(&references.overrides);
            let config = config.map_err(|reason| format!("references.from is \"aws\", but {reason}"))?;
            Ok(Arc::new(FromAws::new(aws::Client::new(config))))
        }
    }
}

/// Completes on SIGINT or SIGTERM, after saying that no more work is wanted.
async fn stopped(ready: Arc<AtomicBool>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    ready.store(false, Ordering::Relaxed);
    eprintln!("stopping; builds that run go on, and the next server takes them up");
}
