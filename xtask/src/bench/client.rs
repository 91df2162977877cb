//! A small, fast AWS client: one kept-alive connection, JSON 1.1, nothing retried.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::sign;

pub(crate) const GET_LOG_EVENTS: &str = "Logs_20140328.GetLogEvents";

/// A build's log, page after page as `read` answers [`GET_LOG_EVENTS`].
pub(crate) fn whole_log(
    build: &Value,
    mut read: impl FnMut(&Value) -> Result<Value, String>,
) -> Result<String, String> {
    let mut input = json!({
        "logGroupName": build["logs"]["groupName"],
        "logStreamName": build["logs"]["streamName"],
        "startFromHead": true,
    });
    let mut log = String::new();
    loop {
        let page = read(&input)?;
        let events = page["events"].as_array().map(Vec::as_slice).unwrap_or_default();
        events.iter().filter_map(|event| event["message"].as_str()).for_each(|text| log.push_str(text));
        if input["nextToken"] == page["nextForwardToken"] {
            return Ok(log);
        }
        input["nextToken"] = page["nextForwardToken"].clone();
    }
}

pub(crate) struct Client {
    host: String,
    connection: BufReader<TcpStream>,
    /// Seconds by which the server's clock is ahead of this one.
    ahead: i64,
}

impl Client {
    /// `host` is `address:port`.
    pub(crate) fn connect(host: &str) -> Result<Client, String> {
        let stream = TcpStream::connect(host).map_err(|e| format!("cannot reach {host}: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).map_err(|e| e.to_string())?;
        Ok(Client { host: host.to_owned(), connection: BufReader::new(stream), ahead: 0 })
    }

    /// From now on, requests are signed for a server whose clock is so many seconds ahead.
    pub(crate) fn set_ahead(&mut self, seconds: i64) {
        self.ahead = seconds;
    }

    pub(crate) fn codebuild(&mut self, operation: &str, input: &Value) -> Result<Value, String> {
        self.call("codebuild", &format!("CodeBuild_20161006.{operation}"), input)
    }

    /// The status and the body of an answer, whatever they are.
    pub(crate) fn codebuild_bytes(&mut self, operation: &str, body: &[u8]) -> Result<(u16, Vec<u8>), String> {
        let target = format!("CodeBuild_20161006.{operation}");
        self.exchange("codebuild", &target, body).map_err(|e| format!("{target}: {e}"))
    }

    /// The same of any service: `target` is the whole of X-Amz-Target.
    pub(crate) fn bytes(
        &mut self,
        service: &str,
        target: &str,
        body: &[u8],
    ) -> Result<(u16, Vec<u8>), String> {
        self.exchange(service, target, body).map_err(|e| format!("{target}: {e}"))
    }

    /// All of a build's log, from its beginning.
    pub(crate) fn log(&mut self, build: &Value) -> Result<String, String> {
        whole_log(build, |input| self.call("logs", GET_LOG_EVENTS, input))
    }

    fn call(&mut self, service: &str, target: &str, input: &Value) -> Result<Value, String> {
        let body = input.to_string();
        let answer = self.exchange(service, target, body.as_bytes()).map_err(|e| format!("{target}: {e}"))?;
        match answer {
            (200, body) if body.is_empty() => Ok(Value::Null),
            (200, body) => serde_json::from_slice(&body).map_err(|e| format!("{target}: {e}")),
            (status, body) => Err(format!("{target}: {status} {}", String::from_utf8_lossy(&body))),
        }
    }

    fn exchange(&mut self, service: &str, target: &str, body: &[u8]) -> std::io::Result<(u16, Vec<u8>)> {
        let mut request = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\ncontent-type: {}\r\ncontent-length: {}\r\n",
            self.host,
            sign::CONTENT_TYPE,
            body.len()
        );
        for (name, value) in sign::headers(service, target, &self.host, body, self.ahead) {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        self.connection.get_mut().write_all(&bytes)?;
        self.answer()
    }

    fn answer(&mut self) -> std::io::Result<(u16, Vec<u8>)> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let mut length = 0;
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().map_err(std::io::Error::other)?;
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.connection.read_exact(&mut body)?;
        Ok((status, body))
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        match self.connection.read_line(&mut line)? {
            0 => Err(std::io::Error::other("the server closed the connection")),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}
