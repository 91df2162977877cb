//! Paging tokens as clients see them: sealed on their way out, opened on their way in.
//!
//! The services below know only their own plain tokens: the place in a list. Here such a token gets a code that is
//! made with a key of the server's and covers whose list it is, of which operation, and all that was asked for
//! but the size of a page. So a token that somebody changed, or brings to another list, is refused before it is
//! looked at. The code is made from nothing else: the same place has the same token, which GetLogEvents promises,
//! and a token is good for as long as the key is.

use api::ServiceError;
use api::operation::Service;
use api::schema::Shape;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value};
use sha2::Sha256;

/// Bytes of a token's code.
const CODE_BYTES: usize = 16;
/// Longest token that is looked at. The longest of ours names a log stream or parameter.
const TOKEN_MAX_BYTES: usize = 8 * 1024;
/// Members that say how much is wanted, and of what kind of answer; not which list it is.
const SIZES: [&str; 3] = ["maxresults", "maxresult", "limit"];
/// COMPAT: SA-118 one stream is read on with any times, and with or without `startFromHead`.
const LOG_STREAM: [&str; 4] = ["starttime", "endtime", "startfromhead", "unmask"];
/// Members that hold tokens.
const IN: &str = "nexttoken";
const OUT: [&str; 3] = ["nexttoken", "nextforwardtoken", "nextbackwardtoken"];

/// Seals and opens tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    keyed: Hmac<Sha256>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

/// The list that a call asks for: what its tokens are good for.
#[derive(Debug)]
pub(crate) struct List<'a> {
    tokens: &'a Tokens,
    service: &'static Service,
    /// As JSON: whose, of what, asked for how.
    place: Vec<u8>,
    /// The first bytes of tokens that stay readable.
    readable_bytes: usize,
}

impl Tokens {
    /// Tokens are good among all servers that have this key.
    pub fn new(key: &[u8; 32]) -> Tokens {
        Tokens { keyed: Hmac::new_from_slice(key).expect("HMAC takes keys of any length") }
    }

    /// The list that a valid request is about; `None` for operations that have no pages.
    pub(crate) fn list(
        &self,
        account: &str,
        service: &'static Service,
        operation: &str,
        input: &Shape,
        request: &Value,
    ) -> Option<List<'_>> {
        member_of(input, &[IN])?;
        // COMPAT: SA-118 the tokens of GetLogEvents begin with the direction they lead in.
        let of_stream = operation == "GetLogEvents";
        let unbound: &[&str] = if of_stream { &LOG_STREAM } else { &[] };
        let is_bound = |name: &str| {
            let name = name.to_ascii_lowercase();
            name != IN && !SIZES.contains(&name.as_str()) && !unbound.contains(&name.as_str())
        };
        let given = |name: &str| request.get(name).filter(|value| !value.is_null());
        let names = input.members().iter().map(|member| member.name).filter(|name| is_bound(name));
        let asked: Map<String, Value> =
            names.filter_map(|name| Some((name.to_owned(), given(name)?.clone()))).collect();
        let place = serde_json::json!([account, service.signing_name, operation, asked]).to_string();
        let readable_bytes = if of_stream { "f/".len() } else { 0 };
        Some(List { tokens: self, service, place: place.into_bytes(), readable_bytes })
    }
}

impl List<'_> {
    /// Puts the service's own token in the place of the one that a client sent.
    ///
    /// # Errors
    /// The service's error for a token that is not of this list.
    pub(crate) fn open_in(&self, input: &Shape, request: &mut Value) -> Result<(), ServiceError> {
        let member = member_of(input, &[IN]).and_then(|name| request.get_mut(name));
        let Some(Value::String(token)) = member else { return Ok(()) };
        // COMPAT: AP-006 an empty token is no token, or whatever the service makes of it.
        if !token.is_empty() {
            *token = self.open(token).ok_or_else(|| invalid_token(self.service, token))?;
        }
        Ok(())
    }

    /// Seals the tokens of an answer.
    pub(crate) fn seal_in(&self, answer: &mut Value) {
        let Value::Object(members) = answer else { return };
        for (name, member) in members {
            if let Value::String(token) = member
                && OUT.contains(&name.to_ascii_lowercase().as_str())
            {
                *token = self.seal(token);
            }
        }
    }

    fn seal(&self, token: &str) -> String {
        let (readable, hidden) = token.split_at(self.readable_bytes.min(token.len()));
        let mut bytes = self.code(token).to_vec();
        bytes.extend_from_slice(hidden.as_bytes());
        format!("{readable}{}", base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes))
    }

    fn open(&self, sealed: &str) -> Option<String> {
        let short = Some(sealed).filter(|sealed| sealed.len() <= TOKEN_MAX_BYTES);
        let (readable, text) = short?.split_at_checked(self.readable_bytes)?;
        let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(text).ok()?;
        let (code, hidden) = bytes.split_at_checked(CODE_BYTES)?;
        let token = format!("{readable}{}", std::str::from_utf8(hidden).ok()?);
        let is_ours: bool = subtle::ConstantTimeEq::ct_eq(&self.code(&token)[..], code).into();
        // Base64 can spell the same bytes in several ways; ours is one.
        (is_ours && self.seal(&token) == sealed).then_some(token)
    }

    fn code(&self, token: &str) -> [u8; CODE_BYTES] {
        let mut keyed = self.tokens.keyed.clone();
        keyed.update(&(self.place.len() as u64).to_be_bytes());
        keyed.update(&self.place);
        keyed.update(token.as_bytes());
        let code = keyed.finalize().into_bytes();
        code[..CODE_BYTES].try_into().expect("SHA-256 is longer")
    }
}

/// The structure's member of one of these names, whatever their case.
fn member_of(shape: &Shape, names: &[&str]) -> Option<&'static str> {
    let mut members = shape.members().iter().map(|member| member.name);
    members.find(|member| names.contains(&member.to_ascii_lowercase().as_str()))
}

/// COMPAT: AP-006 each service has its own words.
fn invalid_token(service: &Service, token: &str) -> ServiceError {
    match service.signing_name {
        "codebuild" => ServiceError::invalid_input(format!("Invalid next token: {token}")),
        "ssm" => ServiceError::new("InvalidNextToken", "The specified token isn't valid.", 400),
        "secretsmanager" => {
            ServiceError::new("InvalidNextTokenException", "The NextToken value is invalid.", 400)
        }
        _ => ServiceError::invalid_parameter("The specified nextToken is invalid."),
    }
}

#[cfg(test)]
mod tests {
    use api::{codebuild, logs, secretsmanager, ssm};
    use serde_json::json;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn tokens() -> Tokens {
        Tokens::new(&KEY)
    }

    /// What a list of builds answers to be opened with, by account and request.
    fn opened(tokens: &Tokens, account: &str, mut request: Value) -> Result<Value, ServiceError> {
        let operation = codebuild::Operation::ListBuildsForProject;
        let (service, input) = (operation.service(), operation.input());
        let list = tokens.list(account, service, operation.name(), input, &request).unwrap();
        list.open_in(input, &mut request)?;
        Ok(request["nextToken"].clone())
    }

    fn sealed(request: &Value) -> String {
        let operation = codebuild::Operation::ListBuildsForProject;
        let (service, input) = (operation.service(), operation.input());
        let tokens = tokens();
        let list = tokens.list("1", service, operation.name(), input, request).unwrap();
        let mut answer = json!({ "ids": ["nextToken"], "nextToken": "builds/12" });
        list.seal_in(&mut answer);
        assert_eq!(answer["ids"], json!(["nextToken"]));
        answer["nextToken"].as_str().unwrap().to_owned()
    }

    // AP-006
    #[test]
    fn a_token_leads_on_in_its_own_list_and_in_no_other() {
        let request = json!({ "projectName": "p", "sortOrder": "ASCENDING" });
        let token = sealed(&request);
        let with = |more: Value| {
            let mut request = request.clone();
            request["nextToken"] = token.clone().into();
            request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            request
        };
        let good = [json!({}), json!({ "somethingNew": 1 })];
        for same in good {
            assert_eq!(opened(&tokens(), "1", with(same)).unwrap(), "builds/12");
        }
        for other in [
            json!({ "projectName": "q" }),
            json!({ "sortOrder": "DESCENDING" }),
            json!({ "sortOrder": null }),
        ] {
            let refusal = opened(&tokens(), "1", with(other)).unwrap_err();
            assert_eq!(refusal, ServiceError::invalid_input(format!("Invalid next token: {token}")));
        }
        assert!(opened(&tokens(), "2", with(json!({}))).is_err(), "another account's");
        assert!(opened(&Tokens::new(&[8; 32]), "1", with(json!({}))).is_err(), "another server's");
        assert_eq!(opened(&tokens(), "1", json!({ "projectName": "p", "nextToken": "" })).unwrap(), "");
    }

    // AP-006
    #[test]
    fn a_token_with_any_bit_flipped_or_any_byte_cut_is_refused() {
        let request = json!({ "projectName": "p" });
        let token = sealed(&request);
        let open = |token: &str| opened(&tokens(), "1", json!({ "projectName": "p", "nextToken": token }));
        assert!(open(&token).is_ok());
        for at in 0..token.len() * 8 {
            let mut bytes = token.clone().into_bytes();
            bytes[at / 8] ^= 1 << (at % 8);
            if let Ok(flipped) = String::from_utf8(bytes) {
                assert!(open(&flipped).is_err(), "bit {at}");
            }
        }
        for end in 1..token.len() {
            assert!(open(&token[..end]).is_err(), "cut at {end}");
        }
        for nonsense in
            ["x", "é", "====", &"A".repeat(TOKEN_MAX_BYTES + 4), &format!("{token}A"), &format!("{token}=")]
        {
            assert!(open(nonsense).is_err(), "{nonsense}");
        }
    }

    // SA-118
    #[test]
    fn tokens_of_a_log_stream_show_their_direction_and_are_good_for_other_times() {
        let operation = logs::Operation::GetLogEvents;
        let (service, input, tokens) = (operation.service(), operation.input(), tokens());
        let list = |request: &Value| tokens.list("1", service, operation.name(), input, request).unwrap();
        let request = json!({ "logGroupName": "g", "logStreamName": "s" });
        let mut answer = json!({ "nextForwardToken": "f/12.0", "nextBackwardToken": "b/0.0" });
        list(&request).seal_in(&mut answer);
        let forward = answer["nextForwardToken"].as_str().unwrap();
        assert!(forward.starts_with("f/") && !forward.contains("12.0"), "{forward}");
        let mut next = json!({
            "logGroupName": "g", "logStreamName": "s", "startFromHead": true, "startTime": 5, "limit": 3,
            "nextToken": forward,
        });
        let list = list(&next);
        list.open_in(input, &mut next).unwrap();
        assert_eq!(next["nextToken"], "f/12.0");
        let turned = forward.replacen("f/", "b/", 1);
        assert_eq!(list.open(&turned), None);
    }

    #[test]
    fn each_service_refuses_in_its_own_words_and_what_has_no_pages_has_no_list() {
        let refusal = |service: &'static Service, operation: &str, input: &Shape, member: &str| {
            let mut request = json!({ member: "nonsense" });
            let tokens = tokens();
            let list = tokens.list("1", service, operation, input, &request).unwrap();
            list.open_in(input, &mut request).unwrap_err().code
        };
        let (describe, list) = (ssm::Operation::DescribeParameters, secretsmanager::Operation::ListSecrets);
        assert_eq!(
            refusal(&ssm::SERVICE, "DescribeParameters", describe.input(), "NextToken"),
            "InvalidNextToken"
        );
        let code = refusal(&secretsmanager::SERVICE, "ListSecrets", list.input(), "NextToken");
        assert_eq!(code, "InvalidNextTokenException");
        let filter = logs::Operation::FilterLogEvents.input();
        let code = refusal(&logs::SERVICE, "FilterLogEvents", filter, "nextToken");
        assert_eq!(code, "InvalidParameterException");
        let start = codebuild::Operation::StartBuild.input();
        assert!(tokens().list("1", &codebuild::SERVICE, "StartBuild", start, &json!({})).is_none());
    }
}
