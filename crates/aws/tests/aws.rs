//! The client against a server of a few lines, which answers what the case says and remembers what it was asked.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers and all")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use aws::{CODEBUILD, Client, Config, Credentials, Endpoints, Error, Secret, Selected};
use serde_json::{Value, json};

/// Answers one connection after the other, each with the next of the answers; the last one for ever.
struct Service {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn new(answers: Vec<String>) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = asked.clone();
        std::thread::spawn(move || {
            for (at, connection) in listener.incoming().enumerate() {
                let mut connection = connection.unwrap();
                heard.lock().unwrap().push(request(&mut connection));
                let answer = answers.get(at).unwrap_or_else(|| answers.last().unwrap());
                // A client that had enough has hung up.
                let _ = connection.write_all(answer.as_bytes());
            }
        });
        Service { url, asked }
    }

    fn client(&self) -> Client {
        client(&self.url)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn client(url: &str) -> Client {
    Client::new(Config {
        region: "eu-west-1".into(),
        credentials: Credentials {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: "secret".into(),
            session_token: None,
        },
        endpoints: Endpoints::everything_at(url),
        clock: Arc::new(|| 1_709_210_096_000),
    })
}

/// Head and body as they came.
fn request(connection: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = connection.read(&mut piece).unwrap();
        text.extend_from_slice(&piece[..count]);
        let whole = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = whole.split_once("\r\n\r\n") else { continue };
        let length = head.to_lowercase().lines().find_map(|line| {
            line.strip_prefix("content-length:").map(|length| length.trim().parse::<usize>().unwrap())
        });
        if count == 0 || body.len() >= length.unwrap_or_default() {
            return whole;
        }
    }
}

fn answer(status: &str, body: &Value) -> String {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn refusal(code: &str) -> Value {
    json!({ "__type": format!("com.amazonaws.any#{code}"), "message": "why" })
}

#[tokio::test]
async fn a_call_is_signed_json_and_gives_the_output() {
    let service = Service::new(vec![answer("200 OK", &json!({ "projects": ["a"] }))]);
    let output =
        service.client().call(&CODEBUILD, "ListProjects", &json!({ "sortBy": "NAME" })).await.unwrap();
    assert_eq!(output, json!({ "projects": ["a"] }));
    let asked = &service.asked()[0];
    for part in [
        "POST / HTTP/1.1",
        "x-amz-target: CodeBuild_20161006.ListProjects",
        "content-type: application/x-amz-json-1.1",
        "Credential=AKIDEXAMPLE/20240229/eu-west-1/codebuild/aws4_request",
        "{\"sortBy\":\"NAME\"}",
    ] {
        assert!(asked.contains(part), "{part} in {asked}");
    }
}

#[tokio::test]
async fn throttling_and_faults_are_tried_again_and_refusals_are_not() {
    let again = Service::new(vec![
        answer("400 Bad Request", &refusal("ThrottlingException")),
        answer("500 Internal Server Error", &Value::Null),
        answer("200 OK", &Value::Null),
    ]);
    assert_eq!(again.client().call(&CODEBUILD, "StopBuild", &json!({})).await.unwrap(), json!({}));
    assert_eq!(again.asked().len(), 3);

    let refused = Service::new(vec![answer("400 Bad Request", &refusal("AccessDeniedException"))]);
    let error = refused.client().call(&CODEBUILD, "StopBuild", &json!({})).await.unwrap_err();
    assert!(error.is("AccessDeniedException"), "{error}");
    assert_eq!(error.to_string(), "AccessDeniedException: why");
    assert_eq!(refused.asked().len(), 1);

    let never = Service::new(vec![answer("503 Service Unavailable", &refusal("ServiceUnavailable"))]);
    assert!(
        never.client().call(&CODEBUILD, "StopBuild", &json!({})).await.unwrap_err().is("ServiceUnavailable")
    );
    assert_eq!(never.asked().len(), 4);
}

#[tokio::test]
async fn what_is_signed_for_one_place_is_not_sent_to_another() {
    let elsewhere = Service::new(vec![answer("200 OK", &json!({}))]);
    let there = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: {}/\r\nContent-Length: 0\r\n\r\n",
        elsewhere.url
    );
    let service = Service::new(vec![there]);
    let error = service.client().call(&CODEBUILD, "StopBuild", &json!({})).await.unwrap_err();
    assert!(matches!(error, Error::Answer { .. }), "{error}");
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn an_answer_without_end_or_sense_is_an_error() {
    let endless = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\"{}", "x".repeat(17 << 20));
    let error =
        Service::new(vec![endless]).client().call(&CODEBUILD, "StopBuild", &json!({})).await.unwrap_err();
    assert!(error.to_string().contains("more than 16777216 bytes"), "{error}");
    let page = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<html>".to_owned();
    let error =
        Service::new(vec![page]).client().call(&CODEBUILD, "StopBuild", &json!({})).await.unwrap_err();
    assert!(matches!(error, Error::Answer { .. }), "{error}");
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address() {
    // Of no port that is given to whoever asks for any.
    let unused = "127.0.0.1:1";
    let error =
        client(&format!("http://{unused}")).call(&CODEBUILD, "StopBuild", &json!({})).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { url, .. } if url.contains(unused)), "{error}");
}

// BS-048
#[tokio::test]
async fn parameters_are_asked_for_ten_at_a_time_and_found_by_the_name_they_were_asked_with() {
    let first = json!({
        "Parameters": [
            { "Name": "p1", "Value": "one", "ARN": "arn:aws:ssm:eu-west-1:123456789012:parameter/p1" },
            { "Name": "p2", "Selector": ":3", "Value": "two" },
        ],
        "InvalidParameters": ["p3", "p4", "p5", "p6", "p7", "p8", "p9", "p10"],
    });
    let second = json!({ "Parameters": [{ "Name": "x", "Value": "", "ARN": "arn:of:x" }] });
    let service = Service::new(vec![answer("200 OK", &first), answer("200 OK", &second)]);
    let mut names = vec!["p1".to_owned(), "p2:3".to_owned()];
    names.extend((3..=10).map(|number| format!("p{number}")));
    names.push("arn:of:x".to_owned());
    let found = service.client().get_parameters(&names).await.unwrap();
    let values: Vec<_> = found.values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(values, [("arn:of:x", ""), ("p1", "one"), ("p2:3", "two")]);
    assert_eq!(found.missing, names[2..10]);
    let asked = service.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked[0].contains("\"WithDecryption\":true") && asked[1].contains("\"Names\":[\"arn:of:x\"]"));
}

// BS-049
#[tokio::test]
async fn a_secret_is_asked_for_by_stage_or_version() {
    let service = Service::new(vec![
        answer("200 OK", &json!({ "SecretString": "s" })),
        answer("200 OK", &json!({ "SecretBinary": "AAE=" })),
        answer("200 OK", &json!({})),
    ]);
    let client = service.client();
    let mut selected = Selected { id: "name".into(), stage: Some("AWSPREVIOUS".into()), version: None };
    assert_eq!(client.get_secret_value(&selected).await.unwrap().1, Secret::Text("s".into()));
    selected = Selected { stage: None, version: Some("v".into()), ..selected };
    assert_eq!(client.get_secret_value(&selected).await.unwrap().1, Secret::Binary("AAE=".into()));
    assert!(matches!(client.get_secret_value(&selected).await, Err(Error::Answer { .. })));
    assert!(service.asked()[0].contains("\"VersionStage\":\"AWSPREVIOUS\""));
    assert!(
        service.asked()[1].contains("\"VersionId\":\"v\"") && !service.asked()[1].contains("VersionStage")
    );
}
