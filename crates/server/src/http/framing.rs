//! Requests that two readers could understand differently are refused before anyone acts on them.

use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Version};

use super::HEADERS_MAX;

/// Headers of which a second one could mean something else than the first.
const SINGLE: [HeaderName; 7] = [
    HOST,
    AUTHORIZATION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    HeaderName::from_static("x-amz-target"),
    HeaderName::from_static("x-amz-date"),
    HeaderName::from_static("x-amz-security-token"),
];

/// Checks a request's head and gives HTTP/2 requests the `host` header that signatures cover.
///
/// # Errors
/// A sentence about what is ambiguous.
pub(super) fn check(parts: &mut Parts) -> Result<(), &'static str> {
    if parts.headers.len() > HEADERS_MAX {
        return Err("There are too many header fields.");
    }
    if SINGLE.iter().any(|name| parts.headers.get_all(name).iter().nth(1).is_some()) {
        return Err("A header field that must come once was given more than once.");
    }
    check_host(parts)?;
    check_transfer_encoding(&parts.headers)
}

/// One name for the host, whether from the request target or from the header.
fn check_host(parts: &mut Parts) -> Result<(), &'static str> {
    let authority = parts.uri.authority().map(|authority| authority.as_str().to_owned());
    match (parts.headers.get(HOST), authority) {
        (Some(host), Some(authority)) if host.as_bytes() != authority.as_bytes() => {
            Err("The request target and the Host header name different hosts.")
        }
        (Some(_), _) => Ok(()),
        (None, Some(authority)) if parts.version == Version::HTTP_2 => {
            let host = HeaderValue::from_str(&authority).map_err(|_| "The host is malformed.")?;
            parts.headers.insert(HOST, host);
            Ok(())
        }
        (None, _) => Err("The Host header is missing."),
    }
}

/// A body of unannounced length comes only from SDKs that upload to S3 in signed or checksummed chunks, and they
/// say so. hyper drops a `Content-Length` beside `Transfer-Encoding`, so nothing else can be let through here
/// without guessing what a proxy in front of us understood.
fn check_transfer_encoding(headers: &HeaderMap) -> Result<(), &'static str> {
    let chunked_upload = headers.contains_key("x-amz-decoded-content-length");
    if headers.contains_key(TRANSFER_ENCODING) && !chunked_upload {
        return Err("A request body must have a Content-Length.");
    }
    Ok(())
}

/// Whether the connection must not be used again: with `Transfer-Encoding`, a proxy may disagree with us about
/// where the next request begins (RFC 9112, 6.1).
pub(super) fn must_close(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn verdict(request: hyper::http::request::Builder) -> Result<(), &'static str> {
        check(&mut request.body(()).unwrap().into_parts().0)
    }

    fn get() -> hyper::http::request::Builder {
        Request::get("/").header("host", "localhost")
    }

    #[test]
    fn a_plain_request_passes() {
        assert_eq!(verdict(get()), Ok(()));
        assert_eq!(verdict(Request::get("http://localhost/").header("host", "localhost")), Ok(()));
    }

    #[test]
    fn doubled_headers_that_we_act_on_are_refused() {
        for name in
            ["authorization", "x-amz-target", "x-amz-date", "content-type", "host", "x-amz-security-token"]
        {
            assert!(verdict(get().header(name, "a").header(name, "a")).is_err(), "{name}");
        }
        assert_eq!(verdict(get().header("x-other", "a").header("x-other", "b")), Ok(()));
    }

    #[test]
    fn the_host_has_one_name() {
        assert!(verdict(Request::get("/")).is_err());
        assert!(verdict(Request::get("http://other/").header("host", "localhost")).is_err());
        let mut parts =
            Request::get("http://h2:1/").version(Version::HTTP_2).body(()).unwrap().into_parts().0;
        assert_eq!(check(&mut parts), Ok(()));
        assert_eq!(parts.headers[HOST], "h2:1");
    }

    #[test]
    fn an_unannounced_length_is_for_chunked_uploads_only() {
        assert!(verdict(get().header("transfer-encoding", "chunked")).is_err());
        let upload = get().header("transfer-encoding", "chunked").header("x-amz-decoded-content-length", "1");
        assert_eq!(verdict(upload), Ok(()));
    }

    #[test]
    fn too_many_headers_are_refused() {
        let many = (0..HEADERS_MAX).fold(get(), |request, n| request.header(format!("x-{n}"), "a"));
        assert!(verdict(many).is_err());
    }
}
