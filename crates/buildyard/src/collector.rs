//! OpenTelemetry collectors: where they are, and what every request to them bears.

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

/// Where something goes in OTLP over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Collector {
    /// The whole URL, such as `http://localhost:4318/v1/traces`.
    pub(crate) url: String,
    /// Of every request, such as a token.
    pub(crate) headers: Vec<(String, String)>,
    /// What we are called there.
    pub(crate) service: String,
}

impl Collector {
    /// The collector of `signal`, `traces` or `logs`, as the environment of every OpenTelemetry program and our own settings say.
    ///
    /// # Errors
    /// A sentence about what its address or headers lack.
    pub(crate) fn of(signal: &str, endpoint: Option<&str>) -> Result<Option<Collector>, String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        of(signal, endpoint, variable)
    }

    /// The headers of every request; `signal` is for the error's sentence.
    pub(crate) fn headers(&self, signal: &str) -> Result<HeaderMap, String> {
        let mut all = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        for (name, value) in &self.headers {
            let unfit = || format!("`{name}` cannot be a header of requests to the {signal}' collector");
            let mut text = HeaderValue::from_str(value).map_err(|_| unfit())?;
            text.set_sensitive(true);
            all.insert(name.parse::<HeaderName>().map_err(|_| unfit())?, text);
        }
        Ok(all)
    }

    /// Without TLS none are needed, so none on the host required.
    pub(crate) fn needs_certificates(&self) -> bool {
        !self.url.starts_with("http://")
    }
}

/// An attribute.
pub(crate) fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn of(
    signal: &str,
    endpoint: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Collector>, String> {
    let below = |endpoint: String| format!("{}/v1/{signal}", endpoint.trim_end_matches('/'));
    let own = |what: &str| variable(&format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.to_uppercase()));
    let url = own("ENDPOINT")
        .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT").map(below))
        .or_else(|| endpoint.map(|endpoint| below(endpoint.to_owned())));
    let Some(url) = url else { return Ok(None) };
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(format!("the {signal}' endpoint `{url}` must begin with http:// or https://"));
    }
    let headers = own("HEADERS").or(variable("OTEL_EXPORTER_OTLP_HEADERS")).unwrap_or_default();
    let pair = |pair: &str| -> Result<(String, String), String> {
        let (name, value) = pair
            .split_once('=')
            .ok_or("OTEL_EXPORTER_OTLP_HEADERS must be name=value pairs with commas between")?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    let headers =
        headers.split(',').filter(|one| !one.trim().is_empty()).map(pair).collect::<Result<_, _>>()?;
    let service = variable("OTEL_SERVICE_NAME").unwrap_or_else(|| "buildyard".to_owned());
    Ok(Some(Collector { url, headers, service }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(
        signal: &str,
        endpoint: Option<&str>,
        variables: &[(&str, &str)],
    ) -> Result<Option<Collector>, String> {
        of(signal, endpoint, |name| {
            variables.iter().find(|(given, _)| *given == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_goes_anywhere_unless_somebody_says_where() {
        assert_eq!(found("traces", None, &[]).unwrap(), None);
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://one:4318/");
        let whole = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://two:4318/here");
        let url =
            |signal, endpoint, variables: &[_]| found(signal, endpoint, variables).unwrap().unwrap().url;
        assert_eq!(url("traces", None, &[base]), "http://one:4318/v1/traces");
        assert_eq!(url("traces", None, &[base, whole]), "http://two:4318/here");
        assert_eq!(url("logs", None, &[base, whole]), "http://one:4318/v1/logs");
        assert_eq!(url("traces", Some("https://three"), &[base]), "http://one:4318/v1/traces");
        assert_eq!(url("logs", Some("https://three"), &[whole]), "https://three/v1/logs");
        assert!(found("traces", Some("grpc://x"), &[]).unwrap_err().contains("http://"));
    }

    #[test]
    fn headers_are_pairs_and_the_service_has_a_name() {
        let headers =
            |text| [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://one"), ("OTEL_EXPORTER_OTLP_HEADERS", text)];
        let collector = found("traces", None, &headers("a=b, c = d=e,")).unwrap().unwrap();
        assert_eq!(collector.headers, [("a".into(), "b".into()), ("c".into(), "d=e".into())]);
        assert_eq!(collector.service, "buildyard");
        assert!(found("traces", None, &headers("nonsense")).unwrap_err().contains("name=value"));
    }
}
