//! Paging tokens as clients see them: sealed on their way out, opened on their way in.
//!
//! The services below know only their own plain tokens: the place in a list. Here such a token is encrypted with a key of the
//! server's, so that nobody reads from it what the place is called, and bound to whose list it is, of which operation,
//! and all that was asked for but the size of a page. So a token that somebody changed, or brings to another list,
//! is refused before it is looked at. The nonce is made from just that, too: the same place of the same list has the same token, which
//! GetLogEvents promises, and no nonce is used for two texts. A token is good for as long as the key is.

use api::ServiceError;
use api::operation::Service;
use api::schema::Shape;
use hmac::{Hmac, KeyInit, Mac};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde_json::{Map, Value};
use sha2::Sha256;

/// Longest token that is looked at. The longest of ours names a log stream or parameter.
const TOKEN_MAX_BYTES: usize = 8 * 1024;
/// Members that say how much is wanted, and of what kind of answer; not which list it is.
const SIZES: [&str; 4] = ["maxresults", "maxresult", "limit", "resourcesperpage"];
/// COMPAT: SA-118 one stream is read on with any times, and with or without `startFromHead`.
const LOG_STREAM: [&str; 4] = ["starttime", "endtime", "startfromhead", "unmask"];
/// Members that hold tokens.
const IN: [&str; 2] = ["nexttoken", "paginationtoken"];
const OUT: [&str; 4] = ["nexttoken", "nextforwardtoken", "nextbackwardtoken", "paginationtoken"];

/// Seals and opens tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    sealing: LessSafeKey,
    nonces: Hmac<Sha256>,
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
        let keyed = |key: &[u8]| -> Hmac<Sha256> {
            Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
        };
        let of = |purpose: &str| keyed(key).chain_update(purpose).finalize().into_bytes();
        let sealing = UnboundKey::new(&CHACHA20_POLY1305, &of("sealing")).expect("both have 32 bytes");
        Tokens { sealing: LessSafeKey::new(sealing), nonces: keyed(&of("nonces")) }
    }

    /// A token for this place, of which some first bytes stay readable. It is good for the same `list` only.
    pub(crate) fn seal(&self, list: &[u8], token: &str, readable_bytes: usize) -> String {
        let (readable, hidden) = token.split_at(readable_bytes.min(token.len()));
        let nonce = self.nonce(list, token);
        let mut sealed = hidden.as_bytes().to_vec();
        let aad = Aad::from(bound(list, readable));
        let tag =
            self.sealing.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed);
        let tag = tag.expect("a token is not as long as that");
        let bytes = [&nonce, &sealed[..], tag.as_ref()].concat();
        format!("{readable}{}", base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes))
    }

    /// What [`Tokens::seal`] was given for the same list, if it was.
    pub(crate) fn open(&self, list: &[u8], sealed: &str, readable_bytes: usize) -> Option<String> {
        let short = Some(sealed).filter(|sealed| sealed.len() <= TOKEN_MAX_BYTES);
        let (readable, text) = short?.split_at_checked(readable_bytes)?;
        let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(text).ok()?;
        let (nonce, hidden) = bytes.split_at_checked(NONCE_LEN)?;
        let (nonce, mut hidden) = (Nonce::try_assume_unique_for_key(nonce).ok()?, hidden.to_vec());
        let opened = self.sealing.open_in_place(nonce, Aad::from(bound(list, readable)), &mut hidden).ok()?;
        let token = format!("{readable}{}", std::str::from_utf8(opened).ok()?);
        // Base64 can spell the same bytes in several ways; ours is one.
        (self.seal(list, &token, readable_bytes) == sealed).then_some(token)
    }

    fn nonce(&self, list: &[u8], token: &str) -> [u8; NONCE_LEN] {
        let code = self.nonces.clone().chain_update(bound(list, token)).finalize().into_bytes();
        code[..NONCE_LEN].try_into().expect("SHA-256 is longer")
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
        member_of(input, &IN)?;
        // COMPAT: SA-118 the tokens of GetLogEvents begin with the direction they lead in.
        let of_stream = operation == "GetLogEvents";
        let unbound: &[&str] = if of_stream { &LOG_STREAM } else { &[] };
        let is_bound = |name: &str| {
            let name = name.to_ascii_lowercase();
            !IN.contains(&name.as_str())
                && !SIZES.contains(&name.as_str())
                && !unbound.contains(&name.as_str())
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
        let member = member_of(input, &IN).and_then(|name| request.get_mut(name));
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
                && !token.is_empty()
            {
                *token = self.seal(token);
            }
        }
    }

    fn seal(&self, token: &str) -> String {
        self.tokens.seal(&self.place, token, self.readable_bytes)
    }

    fn open(&self, sealed: &str) -> Option<String> {
        self.tokens.open(&self.place, sealed, self.readable_bytes)
    }
}

/// Both, so that no other two give the same bytes.
fn bound(list: &[u8], rest: &str) -> Vec<u8> {
    [&(list.len() as u64).to_be_bytes(), list, rest.as_bytes()].concat()
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
        "tagging" => ServiceError::invalid_parameter("PaginationToken is not one of an earlier answer"),
        _ => ServiceError::invalid_parameter("The specified nextToken is invalid."),
    }
}

#[cfg(test)]
mod tests {
    use api::{codebuild, logs, secretsmanager, ssm, tagging};
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
    fn a_token_tells_nothing_and_is_the_same_for_the_same_place_only() {
        let (one, other) = (json!({ "projectName": "p" }), json!({ "projectName": "q" }));
        let token = sealed(&one);
        let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(&token).unwrap();
        assert_eq!(bytes.len(), NONCE_LEN + "builds/12".len() + CHACHA20_POLY1305.tag_len());
        let shows = |bytes: &[u8], text: &str| {
            bytes.windows(3).any(|part| text.as_bytes().windows(3).any(|of| of == part))
        };
        assert!(!shows(&bytes, "builds/12") && !shows(token.as_bytes(), "builds/12"));
        assert_eq!(sealed(&one), token);
        let elsewhere = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(sealed(&other)).unwrap();
        assert_ne!(bytes[..NONCE_LEN], elsewhere[..NONCE_LEN]);
    }

    #[test]
    fn the_pages_of_resources_are_sealed_too_and_the_last_ones_empty_token_stays() {
        let operation = tagging::Operation::GetResources;
        let (service, input, tokens) = (operation.service(), operation.input(), tokens());
        let list = |request: &Value| tokens.list("1", service, operation.name(), input, request).unwrap();
        let mut answer = json!({ "PaginationToken": "2:name:0:p" });
        list(&json!({ "ResourcesPerPage": 2 })).seal_in(&mut answer);
        let token = answer["PaginationToken"].clone();
        assert!(!token.as_str().unwrap().contains(':'), "{token}");
        let mut next = json!({ "ResourcesPerPage": 5, "PaginationToken": token });
        list(&next.clone()).open_in(input, &mut next).unwrap();
        assert_eq!(next["PaginationToken"], "2:name:0:p");
        let mut forged = json!({ "PaginationToken": "2:name:0:p" });
        let refusal = list(&forged.clone()).open_in(input, &mut forged).unwrap_err();
        assert_eq!(refusal.code, "InvalidParameterException");
        let mut last = json!({ "PaginationToken": "" });
        list(&json!({})).seal_in(&mut last);
        assert_eq!(last["PaginationToken"], "");
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
