//! Which service a request is for, who sent it, and the answer.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use access::Context;
use api::operation::Service;
use api::schema::Shape;
use api::{ServiceError, codebuild, logs, publicbuilds, query, secretsmanager, ssm, sts, tagging};
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, DATE, HOST, HeaderValue, REFERER, USER_AGENT};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode, Uri};
use serde_json::Value;
use tokio::sync::watch;

use super::answer::{self, Answer, RequestId};
use super::entry::Entry;
use super::wire::Named;
use super::{Peer, body, framing};
use crate::codebuild::CodeBuild;
use crate::keys::{Caller, Keys};
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::paging::{List, Tokens};
use crate::parameters::Parameters;
use crate::reply::{Members, Reply};
use crate::rights::{self, Asker};
use crate::roles::Roles;
use crate::s3::S3;
use crate::secrets::Secrets;
use crate::sigv2;
use crate::sigv4::{self, Payload, Rejection, Replays, Rules, SdkCall, Verified, percent_decode};
use crate::time::{self, Clock};

/// Longest body of a CodeBuild or STS call.
const CALL_MAX_BYTES: usize = 1024 * 1024;
/// Longest body of a CloudWatch Logs call: a full batch of PutLogEvents is 1 MiB of text before JSON escapes it.
const LOGS_CALL_MAX_BYTES: usize = 4 * 1024 * 1024;

/// What an [`Endpoint`] is made of.
pub struct Settings {
    /// Region that clients must sign for.
    pub region: String,
    /// Furthest a client's clock may be off, seconds. AWS: 300.
    pub skew_seconds: i64,
    /// Whose signatures are good.
    pub keys: Keys,
    /// What time it is.
    pub clock: Clock,
    /// Seals the paging tokens of lists.
    pub tokens: Tokens,
    /// Whether the server can take work now: what `/readyz` answers.
    pub ready: Ready,
    /// Whose temporary keys builds have.
    pub roles: Roles,
    /// Signatures that were used for changes.
    pub replays: Replays,
    /// Where requests are counted.
    pub metrics: Metrics,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("region", &self.region).finish_non_exhaustive()
    }
}

type Checking = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Finds out whether the server can take work; if not, says why.
#[derive(Clone)]
pub struct Ready(Arc<dyn Fn() -> Checking + Send + Sync>);

impl Ready {
    pub fn new<F>(check: impl Fn() -> F + Send + Sync + 'static) -> Ready
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Ready(Arc::new(move || Box::pin(check())))
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ready")
    }
}

/// The services behind one door; who calls is found out before them.
#[derive(Debug, Clone)]
pub struct Services {
    pub codebuild: CodeBuild,
    pub logs: Logs,
    pub parameters: Parameters,
    pub s3: S3,
    pub secrets: Secrets,
}

/// Everything behind the listener: answers requests.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) settings: Settings,
    pub(super) services: Services,
    closing: watch::Sender<bool>,
}

/// A call of an operation by its name, in either protocol.
enum Call {
    CodeBuild(codebuild::Operation),
    /// CodeBuild's too, though no model has it.
    PublicBuilds(publicbuilds::Operation),
    Logs(logs::Operation),
    Parameters(ssm::Operation),
    Secrets(secretsmanager::Operation),
    Tagging(tagging::Operation),
    /// No operation of ours, though the service is.
    Unknown(&'static Service, String),
}

/// What a model says of an operation.
struct Operation {
    name: &'static str,
    input: &'static Shape,
    output: &'static Shape,
}

impl Endpoint {
    /// Puts the services behind one door.
    pub fn new(settings: Settings, services: Services) -> Endpoint {
        let (closing, _) = watch::channel(false);
        Endpoint { settings, services, closing }
    }

    /// Ends answers that would otherwise go on for as long as a client listens.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }

    pub(super) fn now_seconds(&self) -> i64 {
        (self.settings.clock)().div_euclid(1_000)
    }

    /// Answers one request. Never fails: what goes wrong is an answer too.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        let id = RequestId::new();
        let (mut parts, body) = request.into_parts();
        let mut entry = Entry::new(&parts.method);
        let must_close = framing::must_close(&parts.headers);
        let mut answer = match framing::check(&mut parts) {
            Ok(()) => self.dispatch(parts, body, &id, &mut entry).await,
            Err(why) => answer::text(StatusCode::BAD_REQUEST, why),
        };
        self.finish(&mut answer, &id, must_close);
        entry.write(&id, answer.status(), &self.settings.metrics);
        answer
    }

    fn finish(&self, answer: &mut Answer, id: &RequestId, must_close: bool) {
        id.mark(answer);
        // SDKs set their clocks by this header when a signature is refused as too old.
        let date =
            HeaderValue::from_str(&time::http_date(self.now_seconds())).expect("a date is plain ASCII");
        answer.headers_mut().insert(DATE, date);
        if must_close {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    async fn dispatch(&self, parts: Parts, body: Incoming, id: &RequestId, entry: &mut Entry) -> Answer {
        if let Some(answer) = self.probe(&parts).await {
            entry.service = "probe";
            return answer;
        }
        if let Some(answer) = self.credentials(&parts).await {
            entry.service = "credentials";
            return answer;
        }
        if let Some(named) = Named::of(&parts) {
            let wire = named.wire;
            return self.call(named, &parts, body, entry).await.unwrap_or_else(|error| wire.error(&error));
        }
        if parts.method == Method::POST && parts.uri.path() == "/" && is_form(&parts) {
            return self.query(&parts, body, id, entry).await;
        }
        self.s3(parts, body, id, entry).await
    }

    /// `/healthz` and `/readyz`, for those who watch the server. Buckets cannot have these names.
    async fn probe(&self, parts: &Parts) -> Option<Answer> {
        if !matches!(parts.method, Method::GET | Method::HEAD)
            || self.services.s3.bucket_of_host(host(parts)).is_some()
        {
            return None;
        }
        match parts.uri.path() {
            "/healthz" => Some(answer::text(StatusCode::OK, "ok\n")),
            "/readyz" => Some(match (self.settings.ready.0)().await {
                Ok(()) => answer::text(StatusCode::OK, "ready\n"),
                Err(why) => answer::text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
            }),
            _ => None,
        }
    }

    async fn call(
        &self,
        named: Named,
        parts: &Parts,
        body: Incoming,
        entry: &mut Entry,
    ) -> Result<Answer, ServiceError> {
        let wire = named.wire;
        let call = Call::named(named).ok_or_else(unknown_operation)?;
        entry.service = call.service().signing_name;
        entry.operation = call.operation().map_or("", |operation| operation.name);
        let bytes = body::read(body, call.body_max_bytes()).await?;
        let verified = self.verify(parts, Payload::Body(&bytes), call.service()).map_err(|why| why.json())?;
        entry.caller = Some(verified.caller.arn.clone());
        if call.changes_something() {
            self.admit(&verified, parts)?;
        }
        let Operation { input, output, .. } = call.operation().ok_or_else(|| call.not_there())?;
        let (limit, service) = (call.body_max_bytes(), call.service());
        let request = wire.parse(parts, &bytes, limit, service, input)?;
        api::validate(input, &request).map_err(|error| error.answer(service))?;
        Ok(wire.reply(output, self.perform(call, verified.caller, request).await?))
    }

    /// Does what a call asks for. Tokens of lists are the services' own behind here, and sealed before.
    async fn perform(&self, call: Call, caller: Caller, mut request: Value) -> Result<Reply, ServiceError> {
        let list = self.list(&call, &caller, &request);
        if let Some((list, input)) = &list {
            list.open_in(input, &mut request)?;
        }
        let mut reply = self.answer_of(call, caller, request).await?;
        if let (Some((list, _)), Reply::Members(members)) = (&list, &mut reply) {
            list.seal_in(members.value());
        }
        Ok(reply)
    }

    fn list(&self, call: &Call, caller: &Caller, request: &Value) -> Option<(List<'_>, &'static Shape)> {
        let Operation { name, input, .. } = call.operation()?;
        let list = self.settings.tokens.list(&caller.account, call.service(), name, input, request)?;
        Some((list, input))
    }

    /// Asks whether the caller may, and if so does it.
    async fn answer_of(&self, call: Call, caller: Caller, mut request: Value) -> Result<Reply, ServiceError> {
        let asker = Asker::new(&caller, &self.settings.region)?;
        let services = &self.services;
        match call {
            Call::CodeBuild(operation) => {
                let codebuild = &services.codebuild;
                let withheld = rights::codebuild::permit(codebuild, operation, &asker, &mut request).await?;
                let mut answer = self.codebuild(operation, caller, request).await?;
                if withheld.is_something() {
                    withheld.name_in(answer.value());
                }
                Ok(Reply::Members(answer))
            }
            Call::PublicBuilds(operation) => {
                self.services.codebuild.public(operation, request).await.map(Reply::Members)
            }
            Call::Logs(operation) => {
                rights::logs::permit(operation, &asker, &request)?;
                services.logs.answer(operation, caller, request, self.closing.subscribe()).await
            }
            Call::Parameters(operation) => {
                rights::parameters::permit(operation, &asker, &request)?;
                services.parameters.answer(operation, caller, request).await
            }
            Call::Secrets(operation) => {
                rights::secrets::permit(&services.secrets, operation, &asker, &request).await?;
                services.secrets.answer(operation, caller, request).await
            }
            Call::Tagging(tagging::Operation::GetResources) => {
                rights::tagging(&asker)?;
                let ask = |operation, request| {
                    let asked = services.codebuild.call(operation, caller.clone(), request);
                    async { asked.await.map(Members::into_value) }
                };
                crate::tagging::get_resources(request, ask).await.map(|found| Reply::of(&found))
            }
            Call::Unknown(..) => Err(call.not_there()),
        }
    }

    /// An operation of CodeBuild, whichever service it is asked through: what a caller may is asked here.
    async fn codebuild(
        &self,
        operation: codebuild::Operation,
        caller: Caller,
        request: Value,
    ) -> Result<Members, ServiceError> {
        self.services.codebuild.call(operation, caller, request).await
    }

    /// A change must not be done twice, and so not at all where it cannot be noted that it was.
    fn admit(&self, verified: &Verified, parts: &Parts) -> Result<(), ServiceError> {
        let (call, until) = (SdkCall::of(&parts.headers), verified.signed_at + self.settings.skew_seconds);
        match self.settings.replays.admit(&verified.signature, call, self.now_seconds(), until) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Rejection::Replayed.json()),
            Err(error) => Err(unkept(&error)),
        }
    }

    async fn query(&self, parts: &Parts, body: Incoming, id: &RequestId, entry: &mut Entry) -> Answer {
        entry.service = sts::SERVICE.signing_name;
        match self.query_call(parts, body, id, entry).await {
            Ok(answer) => answer,
            Err(error) => answer::query_error(&sts::SERVICE, &error, id),
        }
    }

    async fn query_call(
        &self,
        parts: &Parts,
        body: Incoming,
        id: &RequestId,
        entry: &mut Entry,
    ) -> Result<Answer, ServiceError> {
        let bytes = body::read(body, CALL_MAX_BYTES).await?;
        let verified = self.verify(parts, Payload::Body(&bytes), &sts::SERVICE).map_err(|why| why.query())?;
        entry.caller = Some(verified.caller.arn.clone());
        let form = query::Form::parse(&bytes).map_err(|error| error.answer(&sts::SERVICE))?;
        let operation = form.sts_operation()?;
        entry.operation = operation.name();
        let sts::Operation::GetCallerIdentity = operation;
        Ok(answer::xml(query::caller_identity(&crate::sts::identity(&verified.caller), id.as_str())))
    }

    async fn s3(&self, mut parts: Parts, body: Incoming, id: &RequestId, entry: &mut Entry) -> Answer {
        entry.is_s3();
        let resource = parts.uri.path().to_owned();
        let has_body = !body.is_end_stream();
        let mut answer = match self.verify_s3(&mut parts) {
            Ok(caller) => {
                entry.caller = Some(caller.arn.clone());
                self.services.s3.answer(caller, Request::from_parts(parts, body)).await
            }
            Err(why) => answer::s3_error(&why.s3(), &why.s3_details(), &resource, id),
        };
        id.mark_s3(&mut answer);
        // A refusal may come before the body was read. What is left of it ends the connection, and the client should know.
        if has_body && answer.status().is_client_error() {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    fn rules<'a>(&'a self, service: &'a str) -> Rules<'a> {
        Rules {
            region: &self.settings.region,
            service,
            skew_seconds: self.settings.skew_seconds,
            presigned: false,
        }
    }

    fn verify(&self, parts: &Parts, payload: Payload<'_>, service: &Service) -> Result<Verified, Rejection> {
        self.verify_with(parts, payload, &self.rules(service.signing_name))
    }

    fn verify_with(
        &self,
        parts: &Parts,
        payload: Payload<'_>,
        rules: &Rules<'_>,
    ) -> Result<Verified, Rejection> {
        if let Some(token) = session_token(parts) {
            let is_under_way = |build: &str| self.services.codebuild.is_under_way(build);
            self.settings.roles.recognize(&token, self.now_seconds(), &self.settings.keys, is_under_way);
        }
        let mut verified =
            sigv4::verify(&signed(parts), payload, rules, self.now_seconds(), &self.settings.keys)?;
        verified.caller = self.circumstanced(verified.caller, parts);
        Ok(verified)
    }

    /// The caller, whose rights may depend on when and from where this request comes.
    fn circumstanced(&self, mut caller: Caller, parts: &Parts) -> Caller {
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let peer =
            parts.extensions.get::<Peer>().map(|Peer(address)| address.ip().to_canonical().to_string());
        let circumstances = Context::default()
            .at((self.settings.clock)())
            .with("aws:RequestedRegion", &self.settings.region)
            .with("aws:SecureTransport", "false")
            .with_all("aws:SourceIp", peer)
            .with_all("aws:UserAgent", header(USER_AGENT))
            .with_all("aws:Referer", header(REFERER));
        caller.rights = caller.rights.under(&circumstances);
        caller
    }

    /// Links of either version. A link's `x-amz-` parameters stand for headers, and become them once they are
    /// known to be signed.
    fn verify_s3(&self, parts: &mut Parts) -> Result<Caller, Rejection> {
        let rules = Rules { presigned: true, ..self.rules("s3") };
        if !sigv2::is_claimed(parts.uri.query().unwrap_or_default()) {
            return Ok(self.verify_with(parts, Payload::Announced, &rules)?.caller);
        }
        let bucket = self.services.s3.bucket_of_host(host(parts));
        let verified =
            sigv2::verify(&signed(parts), bucket, &rules, self.now_seconds(), &self.settings.keys)?;
        parts.headers.extend(verified.headers);
        // s3s checks the signature again, over the path as it finds it.
        if parts.uri.path() != verified.path {
            parts.uri = with_path(&parts.uri, &verified.path).ok_or(Rejection::Mismatch)?;
        }
        Ok(self.circumstanced(verified.caller, parts))
    }
}

impl Call {
    /// `None` when no service of ours has this prefix, or it does not speak this protocol.
    fn named(named: Named) -> Option<Call> {
        let target = named.target?;
        let services =
            [&codebuild::SERVICE, &logs::SERVICE, &secretsmanager::SERVICE, &ssm::SERVICE, &tagging::SERVICE];
        let mut services = services.into_iter().filter(|service| named.wire.is_of(service));
        let (service, name) = services.find_map(|service| Some((service, service.target(&target)?)))?;
        let call = match service.signing_name {
            "codebuild" => codebuild::Operation::from_name(name)
                .map(Call::CodeBuild)
                .or_else(|| publicbuilds::Operation::from_name(name).map(Call::PublicBuilds)),
            "logs" => logs::Operation::from_name(name).map(Call::Logs),
            "ssm" => ssm::Operation::from_name(name).map(Call::Parameters),
            "tagging" => tagging::Operation::from_name(name).map(Call::Tagging),
            _ => secretsmanager::Operation::from_name(name).map(Call::Secrets),
        };
        Some(call.unwrap_or_else(|| Call::Unknown(service, name.to_owned())))
    }

    fn service(&self) -> &'static Service {
        match self {
            Call::CodeBuild(_) | Call::PublicBuilds(_) => &codebuild::SERVICE,
            Call::Logs(_) => &logs::SERVICE,
            Call::Parameters(_) => &ssm::SERVICE,
            Call::Secrets(_) => &secretsmanager::SERVICE,
            Call::Tagging(_) => &tagging::SERVICE,
            Call::Unknown(service, _) => service,
        }
    }

    /// The operation; `None` if it is not ours.
    fn operation(&self) -> Option<Operation> {
        macro_rules! operation {
            ($operation:ident) => {
                Some(Operation {
                    name: $operation.name(),
                    input: $operation.input(),
                    output: $operation.output(),
                })
            };
        }
        match self {
            Call::CodeBuild(operation) => operation!(operation),
            Call::PublicBuilds(operation) => operation!(operation),
            Call::Logs(operation) => operation!(operation),
            Call::Parameters(operation) => operation!(operation),
            Call::Secrets(operation) => operation!(operation),
            Call::Tagging(operation) => operation!(operation),
            Call::Unknown(..) => None,
        }
    }

    /// The refusal of an operation that is not ours. Those of services of which we speak a part are refused by name.
    fn not_there(&self) -> ServiceError {
        let Call::Unknown(service, name) = self else { return unknown_operation() };
        let code = match service.signing_name {
            "ssm" => "UnsupportedOperationException",
            "secretsmanager" => "InvalidRequestException",
            _ => return unknown_operation(),
        };
        match !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            true => ServiceError::new(code, format!("{name} is not available in this version"), 400),
            false => unknown_operation(),
        }
    }

    fn body_max_bytes(&self) -> usize {
        match self {
            Call::Logs(_) => LOGS_CALL_MAX_BYTES,
            _ => CALL_MAX_BYTES,
        }
    }

    /// Whether playing the same request again would matter.
    fn changes_something(&self) -> bool {
        const READING: [&str; 7] = ["BatchGet", "Describe", "Filter", "Get", "List", "StartLiveTail", "Test"];
        let changes = |name: &str| !READING.iter().any(|start| name.starts_with(start));
        self.operation().is_some_and(|operation| changes(operation.name))
    }
}

fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let mut pieces = uri.clone().into_parts();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    pieces.path_and_query = Some(format!("{path}{query}").parse().ok()?);
    Uri::from_parts(pieces).ok()
}

/// The token that comes with a temporary key, in a header or in a link.
fn session_token(parts: &Parts) -> Option<Cow<'_, str>> {
    if let Some(header) = parts.headers.get("x-amz-security-token") {
        return header.to_str().ok().map(Cow::Borrowed);
    }
    let pairs = parts.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(name, _)| *name == "X-Amz-Security-Token")?;
    String::from_utf8(percent_decode(value)).ok().map(Cow::Owned)
}

/// What a signature covers.
fn signed(parts: &Parts) -> sigv4::Request<'_> {
    sigv4::Request {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers: &parts.headers,
    }
}

fn unkept(error: &std::io::Error) -> ServiceError {
    tracing::error!(%error, "a signature cannot be kept; what it was for is refused");
    let message = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => "The disk is full",
        _ => "The disk cannot be written to",
    };
    ServiceError::new("ServiceUnavailableException", message, 503)
}

fn unknown_operation() -> ServiceError {
    ServiceError::unknown_operation("")
}

fn is_form(parts: &Parts) -> bool {
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}

fn host(parts: &Parts) -> &str {
    parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}
