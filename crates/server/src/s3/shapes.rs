//! Our types as S3's: errors, metadata, checksums, keys in listings.

use std::fmt::Write as _;

use s3s::dto::{self, Checksum, ETag, Timestamp, TimestampFormat};
use s3s::{S3Error, S3ErrorCode, s3_error};
use store::objects::{Metadata, ObjectInfo};

/// What the store says, in S3's words.
pub(super) fn error(error: store::Error) -> S3Error {
    use store::Error;
    match error {
        Error::NoSuchBucket(_) => s3_error!(NoSuchBucket, "The specified bucket does not exist"),
        Error::ForeignBucket(_) => s3_error!(AccessDenied, "Access Denied"),
        Error::NoSuchKey(_) => s3_error!(NoSuchKey, "The specified key does not exist."),
        Error::NoSuchVersion { .. } => s3_error!(NoSuchVersion, "The specified version does not exist."),
        Error::NoSuchUpload(_) => no_such_upload(),
        Error::BucketAlreadyExists(_) => s3_error!(
            BucketAlreadyOwnedByYou,
            "Your previous request to create the named bucket succeeded and you already own it."
        ),
        Error::BucketNotEmpty(_) => s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty"),
        Error::InvalidBucketName { .. } => invalid_bucket_name(),
        Error::InvalidKey(_) => s3_error!(KeyTooLongError, "Your key is too long"),
        Error::PreconditionFailed(_) => precondition_failed(),
        Error::MetadataTooLarge(_) => {
            s3_error!(MetadataTooLarge, "Your metadata headers exceed the maximum allowed metadata size")
        }
        Error::InvalidPartNumber(_) => {
            s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive")
        }
        Error::InvalidPart(_) => s3_error!(
            InvalidPart,
            "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."
        ),
        Error::InvalidPartOrder => s3_error!(
            InvalidPartOrder,
            "The list of parts was not in ascending order. Parts must be ordered by part number."
        ),
        Error::PartTooSmall { .. } => {
            s3_error!(EntityTooSmall, "Your proposed upload is smaller than the minimum allowed size")
        }
        // A client waits and tries again; an operator sees the disk in the log.
        Error::Full => {
            tracing::error!("the disk that holds the objects is full");
            s3_error!(ServiceUnavailable, "There is no space left for this object.")
        }
        error @ Error::Blocked(_) => s3_error!(InvalidRequest, "{}", error),
        error => internal(error),
    }
}

/// A fault of ours: the cause is for our log, not for the client.
pub(super) fn internal(cause: impl std::fmt::Display) -> S3Error {
    tracing::error!(%cause, "an S3 request failed inside the server");
    s3_error!(InternalError, "We encountered an internal error. Please try again.")
}

pub(super) fn no_such_upload() -> S3Error {
    s3_error!(
        NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
    )
}

pub(super) fn invalid_bucket_name() -> S3Error {
    s3_error!(InvalidBucketName, "The specified bucket is not valid.")
}

pub(super) fn precondition_failed() -> S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}

pub(super) fn etag(etag: &str) -> Option<ETag> {
    Some(ETag::Strong(etag.to_owned()))
}

/// The headers that make up an object's metadata; the same members under the same names in several inputs.
macro_rules! metadata_of {
    ($input:expr) => {
        $crate::s3::shapes::metadata(
            $input.content_type.take(),
            [
                $input.content_encoding.take(),
                $input.content_disposition.take(),
                $input.content_language.take(),
                $input.cache_control.take(),
            ],
            $input.expires.take(),
            $input.metadata.take(),
        )
    };
}
pub(super) use metadata_of;

pub(super) fn metadata(
    content_type: Option<String>,
    [encoding, disposition, language, cache]: [Option<String>; 4],
    expires: Option<Timestamp>,
    user: Option<dto::Metadata>,
) -> Metadata {
    Metadata {
        content_type,
        content_encoding: encoding.and_then(stored_encoding),
        content_disposition: disposition,
        content_language: language,
        cache_control: cache,
        expires: expires.and_then(|moment| http_date(&moment)),
        user: user.into_iter().flatten().collect(),
        checksums: Default::default(),
        encryption: None,
    }
}

/// What a request wants an object encrypted with. COMPAT: SA-065 it is said again, and nothing else is done.
pub(super) fn asked(
    encryption: Option<dto::ServerSideEncryption>,
    key: Option<String>,
) -> Option<(String, Option<String>)> {
    encryption.map(|encryption| (encryption.as_str().to_owned(), key))
}

pub(super) fn encryption(metadata: &Metadata) -> Option<dto::ServerSideEncryption> {
    metadata.encryption.as_ref().map(|(encryption, _)| encryption.clone().into())
}

pub(super) fn encryption_key(metadata: &Metadata) -> Option<String> {
    metadata.encryption.as_ref().and_then(|(_, key)| key.clone())
}

/// `aws-chunked` describes how the bytes travelled, not what they are.
fn stored_encoding(encoding: String) -> Option<String> {
    let kept: Vec<&str> = encoding.split(',').map(str::trim).filter(|part| *part != "aws-chunked").collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

fn http_date(moment: &Timestamp) -> Option<String> {
    let mut text = Vec::new();
    moment.format(TimestampFormat::HttpDate, &mut text).ok()?;
    String::from_utf8(text).ok()
}

pub(super) fn expires(metadata: &Metadata) -> Option<Timestamp> {
    Timestamp::parse(TimestampFormat::HttpDate, metadata.expires.as_deref()?).ok()
}

pub(super) fn user_metadata(metadata: &Metadata) -> Option<dto::Metadata> {
    (!metadata.user.is_empty()).then(|| metadata.user.clone().into_iter().collect())
}

/// The checksums kept with an object.
pub(super) fn checksum(info: &ObjectInfo) -> Checksum {
    let kept = |algorithm: &str| info.metadata.checksums.get(algorithm).cloned();
    Checksum {
        checksum_crc32: kept("CRC32"),
        checksum_crc32c: kept("CRC32C"),
        checksum_crc64nvme: kept("CRC64NVME"),
        checksum_sha1: kept("SHA1"),
        checksum_sha256: kept("SHA256"),
        checksum_type: None,
    }
}

/// Checksums by algorithm, as they are kept.
pub(super) fn checksums(checksum: &Checksum) -> Vec<(&'static str, &str)> {
    [
        ("CRC32", &checksum.checksum_crc32),
        ("CRC32C", &checksum.checksum_crc32c),
        ("CRC64NVME", &checksum.checksum_crc64nvme),
        ("SHA1", &checksum.checksum_sha1),
        ("SHA256", &checksum.checksum_sha256),
    ]
    .into_iter()
    .filter_map(|(algorithm, value)| Some((algorithm, value.as_deref()?)))
    .collect()
}

/// A key in a listing: as it is, or percent-encoded for clients that asked for that because XML cannot hold
/// every character a key can.
pub(super) fn listed(text: &str, url_encoded: bool) -> String {
    if !url_encoded {
        return text.to_owned();
    }
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._*/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String cannot fail");
        }
        encoded
    })
}

pub(super) fn wrong_token() -> S3Error {
    s3_error!(InvalidArgument, "The continuation token provided is incorrect")
}

/// An entry of the `Errors` that DeleteObjects answers with.
pub(super) fn listed_error(key: String, error: &S3Error) -> dto::Error {
    dto::Error {
        code: Some(error.code().as_str().to_owned()),
        key: Some(key),
        message: error.message().map(str::to_owned),
        version_id: None,
    }
}

/// `NotModified` has neither body nor code of its own on the wire.
pub(super) fn not_modified() -> S3Error {
    S3Error::new(S3ErrorCode::NotModified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_percent_encoded_on_request_only() {
        assert_eq!(listed("a b/ü&\u{1}.txt", false), "a b/ü&\u{1}.txt");
        assert_eq!(listed("a b/ü&\u{1}.txt", true), "a%20b/%C3%BC%26%01.txt");
    }

    #[test]
    fn the_encoding_of_the_journey_is_not_kept() {
        assert_eq!(stored_encoding("aws-chunked".into()), None);
        assert_eq!(stored_encoding("gzip,aws-chunked".into()), Some("gzip".into()));
    }
}
