//! Whether a caller may: each operation of S3 as the actions that policies know, on bucket or object.
//!
//! Buckets of other accounts are refused whatever policies say. Lists and copies, whose wish is in their parsed input, are asked for
//! where that is known; so are the objects of DeleteObjects, each for itself, in `buckets`.

use access::{Context, Request};
use s3s::access::{S3Access, S3AccessContext};
use s3s::dto::{
    CopyObjectInput, CopySource, DeleteObjectInput, GetObjectInput, HeadObjectInput, ListObjectsInput,
    ListObjectsV2Input, UploadPartCopyInput,
};
use s3s::path::S3Path;
use s3s::{S3Error, S3Request, S3Result, s3_error};
use store::objects::Objects;

use super::incoming::blocking;
use super::shapes;
use crate::keys::Caller;

/// Asks for one caller, who sees these objects.
#[derive(Debug, Clone)]
pub(super) struct Rights {
    pub(super) caller: Caller,
    pub(super) objects: Objects,
    pub(super) partition: &'static str,
}

/// The action behind an operation of this name; none where more must be known first.
fn action(operation: &str) -> Option<&str> {
    Some(match operation {
        "ListBuckets" => "ListAllMyBuckets",
        "HeadBucket" => "ListBucket",
        "ListMultipartUploads" => "ListBucketMultipartUploads",
        "PutObject"
        | "CopyObject"
        | "CreateMultipartUpload"
        | "UploadPart"
        | "UploadPartCopy"
        | "CompleteMultipartUpload" => "PutObject",
        "ListParts" => "ListMultipartUploadParts",
        "ListObjectVersions" => "ListBucketVersions",
        "ListObjects" | "ListObjectsV2" | "DeleteObjects" | "DeleteObject" | "GetObject" | "HeadObject" => {
            return None;
        }
        // By their own name; most are answered NotImplemented, to those who may.
        other => other,
    })
}

impl Rights {
    fn may(&self, action: &str, bucket: &str, key: &str, about: Context) -> S3Result<()> {
        let slash = if key.is_empty() { "" } else { "/" };
        let resource = match bucket {
            "" => "*".to_owned(),
            _ => format!("arn:{}:s3:::{bucket}{slash}{key}", self.partition),
        };
        let request = Request::new(format!("s3:{action}"), resource).about(about);
        self.caller.rights.may(&request).map_err(refused)
    }

    pub(super) fn may_delete(&self, bucket: &str, key: &str, version: Option<&str>) -> S3Result<()> {
        let action = if version.is_some() { "DeleteObjectVersion" } else { "DeleteObject" };
        self.may(action, bucket, key, Context::default())
    }

    fn may_get(&self, bucket: &str, key: &str, version: Option<&str>) -> S3Result<()> {
        let action = if version.is_some() { "GetObjectVersion" } else { "GetObject" };
        self.may(action, bucket, key, Context::default())
    }

    /// What is not there is told later, to those who may.
    async fn refuse_foreign(&self, bucket: &str) -> S3Result<()> {
        let (objects, bucket) = (self.objects.clone(), bucket.to_owned());
        let looked = blocking(move || Ok(objects.bucket_exists(&bucket))).await?;
        looked.map(drop).map_err(shapes::error)
    }

    fn may_list(
        &self,
        bucket: &str,
        prefix: Option<&str>,
        delimiter: Option<&str>,
        max_keys: Option<i32>,
    ) -> S3Result<()> {
        let about = Context::default()
            .with("s3:prefix", prefix.unwrap_or_default())
            .with_all("s3:delimiter", delimiter.map(str::to_owned))
            .with_all("s3:max-keys", max_keys.map(|keys| keys.to_string()));
        self.may("ListBucket", bucket, "", about)
    }

    async fn may_copy(&self, source: &CopySource) -> S3Result<()> {
        match source {
            CopySource::Bucket { bucket, key, version_id } => {
                self.may_get(bucket, key, version_id.as_deref())?;
                self.refuse_foreign(bucket).await
            }
            // Refused by the operation itself.
            _ => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl S3Access for Rights {
    async fn check(&self, request: &mut S3AccessContext<'_>) -> S3Result<()> {
        if request.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "Signature is required"));
        }
        let operation = request.s3_op().name();
        let (bucket, key) = match request.s3_path() {
            S3Path::Root => ("", ""),
            S3Path::Bucket { bucket } => (bucket.as_ref(), ""),
            S3Path::Object { bucket, key } => (bucket.as_ref(), key.as_ref()),
        };
        if let Some(action) = action(operation) {
            self.may(action, bucket, key, Context::default())?;
        }
        match (bucket, operation) {
            ("", _) | (_, "CreateBucket") => Ok(()),
            _ => self.refuse_foreign(bucket).await,
        }
    }

    async fn list_objects(&self, request: &mut S3Request<ListObjectsInput>) -> S3Result<()> {
        let input = &request.input;
        self.may_list(&input.bucket, input.prefix.as_deref(), input.delimiter.as_deref(), input.max_keys)
    }

    async fn list_objects_v2(&self, request: &mut S3Request<ListObjectsV2Input>) -> S3Result<()> {
        let input = &request.input;
        self.may_list(&input.bucket, input.prefix.as_deref(), input.delimiter.as_deref(), input.max_keys)
    }

    async fn get_object(&self, request: &mut S3Request<GetObjectInput>) -> S3Result<()> {
        let input = &request.input;
        self.may_get(&input.bucket, &input.key, input.version_id.as_deref())
    }

    async fn head_object(&self, request: &mut S3Request<HeadObjectInput>) -> S3Result<()> {
        let input = &request.input;
        self.may_get(&input.bucket, &input.key, input.version_id.as_deref())
    }

    async fn delete_object(&self, request: &mut S3Request<DeleteObjectInput>) -> S3Result<()> {
        let input = &request.input;
        self.may_delete(&input.bucket, &input.key, input.version_id.as_deref())
    }

    async fn copy_object(&self, request: &mut S3Request<CopyObjectInput>) -> S3Result<()> {
        self.may_copy(&request.input.copy_source).await
    }

    async fn upload_part_copy(&self, request: &mut S3Request<UploadPartCopyInput>) -> S3Result<()> {
        self.may_copy(&request.input.copy_source).await
    }
}

fn refused(denied: access::Denied) -> S3Error {
    s3_error!(AccessDenied, "{}", denied)
}
