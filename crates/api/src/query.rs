//! The AWS Query protocol, as much as STS GetCallerIdentity needs: a form in, XML out.

use std::collections::BTreeMap;

use crate::error::{Error, ServiceError};
use crate::operation::{Protocol, Service};
use crate::sts;

/// Fields a form may have.
pub const FIELDS_MAX: usize = 200;

/// A decoded form, such as `Action=GetCallerIdentity&Version=2011-06-15`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form(BTreeMap<String, String>);

impl Form {
    /// Decodes an `application/x-www-form-urlencoded` body or query string.
    ///
    /// # Errors
    /// [`Error::Form`] for broken escapes, text that is not UTF-8, fields named twice, too many fields.
    pub fn parse(body: &[u8]) -> Result<Form, Error> {
        let mut fields = BTreeMap::new();
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let (name, value) = (unescape(&pair[..end])?, unescape(pair.get(end + 1..).unwrap_or_default())?);
            if fields.insert(name, value).is_some() || fields.len() > FIELDS_MAX {
                return Err(Error::Form("The query string has duplicate or too many parameters".to_owned()));
            }
        }
        Ok(Form(fields))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The operation asked for.
    ///
    /// # Errors
    /// `MissingAction` or `InvalidAction`, as STS answers them.
    pub fn sts_operation(&self) -> Result<sts::Operation, ServiceError> {
        let action = self.get("Action").ok_or_else(|| {
            ServiceError::new("MissingAction", "The request must contain the parameter Action", 400)
        })?;
        let version = self.get("Version").unwrap_or_default();
        sts::Operation::from_name(action).filter(|_| version == sts::SERVICE.api_version).ok_or_else(|| {
            let message = format!("Could not find operation {action} for version {version}");
            ServiceError::new("InvalidAction", message, 400)
        })
    }
}

fn unescape(text: &[u8]) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex(rest.next())? << 4 | hex(rest.next())?,
            plain => plain,
        });
    }
    String::from_utf8(bytes).map_err(|_| malformed())
}

fn hex(digit: Option<u8>) -> Result<u8, Error> {
    let value = digit.and_then(|digit| char::from(digit).to_digit(16)).ok_or_else(malformed)?;
    Ok(value as u8)
}

fn malformed() -> Error {
    Error::Form("The query string contains a syntax error".to_owned())
}

/// The body (`text/xml`) that answers GetCallerIdentity.
pub fn caller_identity(identity: &sts::GetCallerIdentityResponse, request_id: &str) -> String {
    let fields = [("UserId", &identity.user_id), ("Account", &identity.account), ("Arn", &identity.arn)];
    let fields =
        fields.into_iter().filter_map(|(name, value)| Some(element(name, &escape(value.as_deref()?))));
    let result = element("GetCallerIdentityResult", &fields.collect::<String>());
    document(&sts::SERVICE, "GetCallerIdentityResponse", &(result + &metadata(request_id)))
}

/// The body (`text/xml`) that tells of an error of a Query service.
pub fn error(service: &Service, error: &ServiceError, request_id: &str) -> String {
    let fault = if error.http_status < 500 { "Sender" } else { "Receiver" };
    let parts = [("Type", fault), ("Code", &error.code), ("Message", &error.message)];
    let parts: String = parts.into_iter().map(|(name, text)| element(name, &escape(text))).collect();
    document(
        service,
        "ErrorResponse",
        &(element("Error", &parts) + &element("RequestId", &escape(request_id))),
    )
}

fn document(service: &Service, root: &str, content: &str) -> String {
    let namespace = match service.protocol {
        Protocol::Query { xml_namespace } => xml_namespace,
        Protocol::Json { .. } => "",
    };
    format!("<{root} xmlns=\"{namespace}\">{content}</{root}>\n")
}

fn metadata(request_id: &str) -> String {
    element("ResponseMetadata", &element("RequestId", &escape(request_id)))
}

fn element(name: &str, content: &str) -> String {
    format!("<{name}>{content}</{name}>")
}

/// Text for between two tags. Characters XML 1.0 cannot hold become U+FFFD.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#xD;"),
            '\t' | '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => out.push(letter),
            _ => out.push('\u{fffd}'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_every_sdk_sends_names_the_operation() {
        let form = Form::parse(b"Action=GetCallerIdentity&Version=2011-06-15").unwrap();
        assert_eq!(form.sts_operation(), Ok(sts::Operation::GetCallerIdentity));
    }

    #[test]
    fn other_actions_and_versions_are_told_apart() {
        let code = |body: &[u8]| Form::parse(body).unwrap().sts_operation().unwrap_err().code;
        assert_eq!(code(b"Action=AssumeRole&Version=2011-06-15"), "InvalidAction");
        assert_eq!(code(b"Action=GetCallerIdentity&Version=2010-01-01"), "InvalidAction");
        assert_eq!(code(b"Version=2011-06-15"), "MissingAction");
    }

    #[test]
    fn escapes_are_decoded_and_broken_ones_refused() {
        assert_eq!(Form::parse(b"a=1+2%20%C3%A9&b").unwrap().get("a"), Some("1 2 \u{e9}"));
        assert_eq!(Form::parse(b"a=1&b").unwrap().get("b"), Some(""));
        for body in ["a=%", "a=%4", "a=%zz", "a=%ff", "a=1&a=2"] {
            assert!(Form::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn the_answer_has_the_shape_sts_gives_it() {
        let identity = sts::GetCallerIdentityResponse {
            user_id: Some("AIDA".into()),
            account: Some("123456789012".into()),
            arn: Some("arn:aws:iam::123456789012:user/A&B".into()),
        };
        assert_eq!(
            caller_identity(&identity, "r-1"),
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <GetCallerIdentityResult><UserId>AIDA</UserId><Account>123456789012</Account>\
             <Arn>arn:aws:iam::123456789012:user/A&amp;B</Arn></GetCallerIdentityResult>\
             <ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></GetCallerIdentityResponse>\n"
        );
    }

    #[test]
    fn an_error_cannot_smuggle_markup_into_its_answer() {
        let answer = error(&sts::SERVICE, &ServiceError::new("AccessDenied", "<b>\u{0}", 403), "r-2");
        assert!(
            answer
                .contains("<Type>Sender</Type><Code>AccessDenied</Code><Message>&lt;b&gt;\u{fffd}</Message>")
        );
    }
}
