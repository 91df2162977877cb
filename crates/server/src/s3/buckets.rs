//! The operations: what `s3s` parsed, done with [`store::objects`].

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use serde_json::json;
use store::objects::{ObjectInfo, Objects, VersionInfo, Versioning};

use super::conditions::{self, Conditions};
use super::incoming::{Promise, blocking, receive};
use super::rights::Rights;
use super::shapes::{self, metadata_of};
use super::{RESERVED_BUCKETS, outgoing};
use crate::paging::Tokens;

/// Most entries of one page of a listing.
const PAGE_MAX: usize = 1_000;
/// Most keys in one DeleteObjects.
const DELETE_MAX: usize = 1_000;
/// COMPAT: S3 what an object without a Content-Type is said to be.
const DEFAULT_TYPE: &str = "binary/octet-stream";

/// The buckets of one account.
#[derive(Debug)]
pub(super) struct Buckets {
    objects: Objects,
    region: String,
    account: String,
    rights: Rights,
    tokens: Tokens,
}

impl Buckets {
    /// The buckets that the caller's account has.
    pub(super) fn new(region: &str, rights: Rights, tokens: Tokens) -> Buckets {
        let (objects, account) = (rights.objects.clone(), rights.caller.account.clone());
        Buckets { objects, region: region.to_owned(), account, rights, tokens }
    }

    /// Runs a call to the store where it may block.
    async fn store<T, F>(&self, call: F) -> S3Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Objects) -> store::Result<T> + Send + 'static,
    {
        let objects = self.objects.clone();
        blocking(move || call(&objects).map_err(shapes::error)).await
    }

    async fn require_bucket(&self, bucket: &str) -> S3Result<()> {
        let name = bucket.to_owned();
        let exists = self.store(move |objects| objects.bucket_exists(&name)).await?;
        if exists { Ok(()) } else { Err(shapes::error(store::Error::NoSuchBucket(bucket.to_owned()))) }
    }

    /// Fails unless the upload is one of this very bucket and key: ids alone are no permission.
    async fn require_upload(&self, id: &str, bucket: &str, key: &str) -> S3Result<()> {
        let upload = id.to_owned();
        let info = self.store(move |objects| objects.head_upload(&upload)).await?;
        if info.bucket == bucket && info.key == key { Ok(()) } else { Err(shapes::no_such_upload()) }
    }

    fn owner(&self) -> Owner {
        Owner { display_name: None, id: Some(self.account.clone()) }
    }

    async fn page(&self, bucket: String, page: Page) -> S3Result<Listed> {
        let max = page.max_keys.map_or(PAGE_MAX, |max| usize::try_from(max).unwrap_or(0).min(PAGE_MAX));
        let Page { prefix, delimiter, after, url_encoded, .. } = page;
        let listing = self
            .store(move |objects| {
                objects.list(
                    &bucket,
                    prefix.as_deref().unwrap_or(""),
                    delimiter.as_deref(),
                    after.as_deref(),
                    max,
                )
            })
            .await?;
        let object = |info: ObjectInfo| Object {
            key: Some(shapes::listed(&info.key, url_encoded)),
            size: Some(info.size as i64),
            e_tag: shapes::etag(&info.etag),
            last_modified: Some(info.modified.into()),
            storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
            ..Object::default()
        };
        let prefix = |prefix: String| CommonPrefix { prefix: Some(shapes::listed(&prefix, url_encoded)) };
        Ok(Listed {
            contents: listing.objects.into_iter().map(object).collect(),
            common_prefixes: listing.common_prefixes.into_iter().map(prefix).collect(),
            next: listing.truncated.then_some(listing.next).flatten(),
            max,
        })
    }
}

/// What both versions of ListObjects ask for.
struct Page {
    prefix: Option<String>,
    delimiter: Option<String>,
    after: Option<String>,
    max_keys: Option<i32>,
    url_encoded: bool,
}

/// What both versions of ListObjects answer with.
struct Listed {
    contents: Vec<Object>,
    common_prefixes: Vec<CommonPrefix>,
    next: Option<String>,
    max: usize,
}

fn answer<T>(output: T) -> S3Result<S3Response<T>> {
    Ok(S3Response::new(output))
}

fn is_url(encoding: Option<&EncodingType>) -> bool {
    encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL)
}

/// Bucket, key and perhaps a version.
fn source(copy_source: &CopySource) -> S3Result<(String, String, Option<String>)> {
    match copy_source {
        CopySource::Bucket { bucket, key, version_id } => {
            Ok((bucket.to_string(), key.to_string(), version_id.as_deref().map(str::to_owned)))
        }
        _ => Err(s3_error!(NotImplemented, "Access points and Outposts are not implemented as copy sources")),
    }
}

fn wants_checksums(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

#[async_trait::async_trait]
impl S3 for Buckets {
    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let buckets = self.store(|objects| objects.list_buckets()).await?;
        let bucket = |info: store::objects::BucketInfo| Bucket {
            name: Some(info.name),
            creation_date: Some(info.created.into()),
            bucket_region: None,
        };
        answer(ListBucketsOutput {
            buckets: Some(buckets.into_iter().map(bucket).collect()),
            owner: Some(self.owner()),
            ..Default::default()
        })
    }

    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let bucket = request.input.bucket;
        if RESERVED_BUCKETS.contains(&bucket.as_str()) {
            return Err(shapes::invalid_bucket_name());
        }
        let location = format!("/{bucket}");
        let made = self.objects.clone();
        let made = blocking(move || Ok(made.create_bucket(&bucket))).await?;
        made.map_err(|error| match error {
            // COMPAT: S3 names are everybody's, and who has one already is not told.
            store::Error::ForeignBucket(_) => s3_error!(
                BucketAlreadyExists,
                "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again."
            ),
            error => shapes::error(error),
        })?;
        answer(CreateBucketOutput { location: Some(location) })
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.require_bucket(&request.input.bucket).await?;
        answer(HeadBucketOutput { bucket_region: Some(self.region.clone()), ..Default::default() })
    }

    async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.store(move |objects| objects.delete_bucket(&request.input.bucket)).await?;
        answer(DeleteBucketOutput::default())
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.require_bucket(&request.input.bucket).await?;
        // COMPAT: S3 us-east-1 is the location without a name.
        let named = (self.region != "us-east-1").then(|| BucketLocationConstraint::from(self.region.clone()));
        answer(GetBucketLocationOutput { location_constraint: named })
    }

    // COMPAT: SA-006 CodeBuild's service roles ask for the ACL before they read a source: the owner has everything.
    async fn get_bucket_acl(
        &self,
        request: S3Request<GetBucketAclInput>,
    ) -> S3Result<S3Response<GetBucketAclOutput>> {
        self.require_bucket(&request.input.bucket).await?;
        let grantee = Grantee {
            id: Some(self.account.clone()),
            type_: Type::from_static(Type::CANONICAL_USER),
            display_name: None,
            email_address: None,
            uri: None,
        };
        let grant = Grant {
            grantee: Some(grantee),
            permission: Some(Permission::from_static(Permission::FULL_CONTROL)),
        };
        answer(GetBucketAclOutput { grants: Some(vec![grant]), owner: Some(self.owner()) })
    }

    // COMPAT: IN-155 the Jenkins plugin asks before it uploads. There is no status where versions were never kept.
    async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        let versioning = self.store(move |objects| objects.versioning(&request.input.bucket)).await?;
        let status = versioning.map(|versioning| match versioning {
            Versioning::Enabled => BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED),
            Versioning::Suspended => BucketVersioningStatus::from_static(BucketVersioningStatus::SUSPENDED),
        });
        answer(GetBucketVersioningOutput { status, ..Default::default() })
    }

    async fn put_bucket_versioning(
        &self,
        request: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<S3Response<PutBucketVersioningOutput>> {
        let PutBucketVersioningInput { bucket, versioning_configuration, .. } = request.input;
        let versioning = match versioning_configuration.status.as_ref().map(BucketVersioningStatus::as_str) {
            Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
            Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
            _ => {
                return Err(s3_error!(
                    MalformedXML,
                    "The XML you provided was not well-formed or did not validate against our published schema"
                ));
            }
        };
        self.store(move |objects| objects.set_versioning(&bucket, versioning)).await?;
        answer(PutBucketVersioningOutput::default())
    }

    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = request.input;
        if input.delimiter.as_deref().is_some_and(|delimiter| !delimiter.is_empty()) {
            return Err(s3_error!(NotImplemented, "A delimiter is not implemented for ListObjectVersions"));
        }
        let max = page_size(input.max_keys);
        let (bucket, prefix) = (input.bucket.clone(), input.prefix.clone().unwrap_or_default());
        let (key, version) = (input.key_marker.clone(), input.version_id_marker.clone());
        let (found, is_truncated) = self
            .store(move |objects| {
                let after = key.as_deref().filter(|key| !key.is_empty());
                objects.list_versions(&bucket, &prefix, after.map(|key| (key, version.as_deref())), max)
            })
            .await?;
        let url_encoded = is_url(input.encoding_type.as_ref());
        let last = found.last().filter(|_| is_truncated).map(|last| last.object.clone());
        let (markers, versions): (Vec<_>, Vec<_>) = found.into_iter().partition(|version| version.is_marker);
        let version = |VersionInfo { object, is_latest, .. }: VersionInfo| ObjectVersion {
            key: Some(shapes::listed(&object.key, url_encoded)),
            size: Some(object.size as i64),
            e_tag: shapes::etag(&object.etag),
            is_latest: Some(is_latest),
            last_modified: Some(object.modified.into()),
            owner: Some(self.owner()),
            storage_class: Some(ObjectVersionStorageClass::from_static(ObjectVersionStorageClass::STANDARD)),
            version_id: object.version,
            ..Default::default()
        };
        let marker = |VersionInfo { object, is_latest, .. }: VersionInfo| DeleteMarkerEntry {
            key: Some(shapes::listed(&object.key, url_encoded)),
            is_latest: Some(is_latest),
            last_modified: Some(object.modified.into()),
            owner: Some(self.owner()),
            version_id: object.version,
        };
        answer(ListObjectVersionsOutput {
            versions: Some(versions.into_iter().map(version).collect()),
            delete_markers: Some(markers.into_iter().map(marker).collect()),
            name: Some(input.bucket),
            prefix: Some(shapes::listed(&input.prefix.unwrap_or_default(), url_encoded)),
            key_marker: Some(shapes::listed(&input.key_marker.unwrap_or_default(), url_encoded)),
            version_id_marker: input.version_id_marker,
            max_keys: Some(max as i32),
            is_truncated: Some(is_truncated),
            next_key_marker: last.as_ref().map(|last| shapes::listed(&last.key, url_encoded)),
            next_version_id_marker: last.and_then(|last| last.version),
            encoding_type: input.encoding_type,
            ..Default::default()
        })
    }

    async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input;
        let url_encoded = is_url(input.encoding_type.as_ref());
        let page = Page {
            prefix: input.prefix.clone(),
            delimiter: input.delimiter.clone(),
            after: input.marker.clone().filter(|marker| !marker.is_empty()),
            max_keys: input.max_keys,
            url_encoded,
        };
        let listed = self.page(input.bucket.clone(), page).await?;
        let echo = |text: String| shapes::listed(&text, url_encoded);
        answer(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(input.prefix.map(echo).unwrap_or_default()),
            marker: Some(input.marker.map(echo).unwrap_or_default()),
            max_keys: Some(listed.max as i32),
            is_truncated: Some(listed.next.is_some()),
            // COMPAT: S3 gives a marker only with a delimiter; clients take the last key otherwise. Both are fine.
            next_marker: listed.next.map(echo),
            contents: Some(listed.contents),
            common_prefixes: Some(listed.common_prefixes),
            delimiter: input.delimiter.map(echo),
            encoding_type: input.encoding_type,
            request_charged: None,
        })
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let url_encoded = is_url(input.encoding_type.as_ref());
        // COMPAT: a token goes on in its own list, whatever the size of its pages.
        let list = json!([self.account, "s3", "ListObjectsV2", input.bucket, input.prefix, input.delimiter]);
        let list = list.to_string().into_bytes();
        let after = match &input.continuation_token {
            Some(token) => Some(self.tokens.open(&list, token, 0).ok_or_else(shapes::wrong_token)?),
            None => input.start_after.clone().filter(|key| !key.is_empty()),
        };
        let page = Page {
            prefix: input.prefix.clone(),
            delimiter: input.delimiter.clone(),
            after,
            max_keys: input.max_keys,
            url_encoded,
        };
        let listed = self.page(input.bucket.clone(), page).await?;
        let echo = |text: String| shapes::listed(&text, url_encoded);
        answer(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(input.prefix.map(echo).unwrap_or_default()),
            max_keys: Some(listed.max as i32),
            key_count: Some((listed.contents.len() + listed.common_prefixes.len()) as i32),
            continuation_token: input.continuation_token,
            is_truncated: Some(listed.next.is_some()),
            next_continuation_token: listed.next.as_deref().map(|next| self.tokens.seal(&list, next, 0)),
            contents: Some(listed.contents),
            common_prefixes: Some(listed.common_prefixes),
            delimiter: input.delimiter.map(echo),
            start_after: input.start_after.map(echo),
            encoding_type: input.encoding_type,
            request_charged: None,
        })
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let (bucket, key, version) = (input.bucket, input.key, input.version_id);
        let (file, info) =
            self.store(move |objects| objects.get_version(&bucket, &key, version.as_deref())).await?;
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        conditions.check(&info)?;
        let range = match input.range {
            Some(range) => span(range, info.size)?,
            None => 0..info.size,
        };
        let content_range = input.range.map(|_| content_range(&range, info.size));
        // The checksums are of the whole object: a client would hold a part of it against them.
        let whole = content_range.is_none() && wants_checksums(input.checksum_mode.as_ref());
        let checksum = if whole { shapes::checksum(&info) } else { Checksum::default() };
        answer(GetObjectOutput {
            version_id: info.version.clone(),
            server_side_encryption: shapes::encryption(&info.metadata),
            ssekms_key_id: shapes::encryption_key(&info.metadata),
            accept_ranges: Some("bytes".to_owned()),
            body: Some(outgoing::send(file, range.clone())),
            content_length: Some((range.end - range.start) as i64),
            content_range,
            e_tag: shapes::etag(&info.etag),
            last_modified: Some(info.modified.into()),
            metadata: shapes::user_metadata(&info.metadata),
            expires: shapes::expires(&info.metadata),
            content_type: Some(info.metadata.content_type.unwrap_or_else(|| DEFAULT_TYPE.to_owned())),
            content_encoding: info.metadata.content_encoding,
            content_disposition: info.metadata.content_disposition,
            content_language: info.metadata.content_language,
            cache_control: info.metadata.cache_control,
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
            ..Default::default()
        })
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let (bucket, key, version) = (input.bucket, input.key, input.version_id);
        let (_, info) =
            self.store(move |objects| objects.get_version(&bucket, &key, version.as_deref())).await?;
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        conditions.check(&info)?;
        let range = match input.range {
            Some(range) => span(range, info.size)?,
            None => 0..info.size,
        };
        let wanted = wants_checksums(input.checksum_mode.as_ref());
        let checksum = if wanted { shapes::checksum(&info) } else { Checksum::default() };
        answer(HeadObjectOutput {
            version_id: info.version.clone(),
            server_side_encryption: shapes::encryption(&info.metadata),
            ssekms_key_id: shapes::encryption_key(&info.metadata),
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some((range.end - range.start) as i64),
            content_range: input.range.map(|_| content_range(&range, info.size)),
            e_tag: shapes::etag(&info.etag),
            last_modified: Some(info.modified.into()),
            metadata: shapes::user_metadata(&info.metadata),
            expires: shapes::expires(&info.metadata),
            content_type: Some(info.metadata.content_type.unwrap_or_else(|| DEFAULT_TYPE.to_owned())),
            content_encoding: info.metadata.content_encoding,
            content_disposition: info.metadata.content_disposition,
            content_language: info.metadata.content_language,
            cache_control: info.metadata.cache_control,
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
            ..Default::default()
        })
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let mut input = request.input;
        let checksum = Checksum {
            checksum_crc32: input.checksum_crc32.take(),
            checksum_crc32c: input.checksum_crc32c.take(),
            checksum_crc64nvme: input.checksum_crc64nvme.take(),
            checksum_sha1: input.checksum_sha1.take(),
            checksum_sha256: input.checksum_sha256.take(),
            checksum_type: None,
        };
        let algorithm = input.checksum_algorithm.as_ref();
        let promise = Promise::new(
            checksum,
            algorithm,
            input.content_md5.take(),
            &request.headers,
            request.trailing_headers,
        );
        let mut metadata = metadata_of!(input);
        metadata.encryption = shapes::asked(input.server_side_encryption.take(), input.ssekms_key_id.take());
        let condition = conditions::of_write(input.if_match, input.if_none_match)?;
        let (bucket, key) = (input.bucket, input.key);
        let writer = self.store(move |objects| objects.put(&bucket, &key)).await?;
        let (writer, checksums) = receive(input.body, writer, promise).await?;
        metadata.checksums = checksums;
        let info = blocking(move || writer.finish_if(&condition, metadata).map_err(shapes::error)).await?;
        let checksum = shapes::checksum(&info);
        answer(PutObjectOutput {
            version_id: info.version.clone(),
            server_side_encryption: shapes::encryption(&info.metadata),
            ssekms_key_id: shapes::encryption_key(&info.metadata),
            e_tag: shapes::etag(&info.etag),
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
            ..Default::default()
        })
    }

    async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let mut input = request.input;
        let from = source(&input.copy_source)?;
        let conditions = Conditions {
            if_match: input.copy_source_if_match.take(),
            if_none_match: input.copy_source_if_none_match.take(),
            if_modified_since: input.copy_source_if_modified_since.take(),
            if_unmodified_since: input.copy_source_if_unmodified_since.take(),
        };
        let directive = input.metadata_directive.as_ref().map(MetadataDirective::as_str);
        let replaced = (directive == Some(MetadataDirective::REPLACE)).then(|| metadata_of!(input));
        let (bucket, key) = (input.bucket, input.key);
        let objects = self.objects.clone();
        let info = blocking(move || {
            let (from_bucket, from_key, version) = (&from.0, &from.1, from.2.as_deref());
            let (_, info) = objects.get_version(from_bucket, from_key, version).map_err(shapes::error)?;
            conditions.check_source(&info)?;
            objects.copy((from_bucket, from_key, version), (&bucket, &key), replaced).map_err(shapes::error)
        })
        .await?;
        let result = CopyObjectResult {
            e_tag: shapes::etag(&info.etag),
            last_modified: Some(info.modified.into()),
            ..Default::default()
        };
        answer(CopyObjectOutput {
            copy_object_result: Some(result),
            version_id: info.version,
            ..Default::default()
        })
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        let deleted = self
            .store(move |objects| {
                objects.delete_version(&input.bucket, &input.key, input.version_id.as_deref())
            })
            .await?;
        answer(DeleteObjectOutput {
            delete_marker: deleted.is_marker.then_some(true),
            version_id: deleted.version,
            ..Default::default()
        })
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = request.input;
        if delete.objects.len() > DELETE_MAX {
            return Err(s3_error!(
                MalformedXML,
                "The XML you provided was not well-formed or did not validate against our published schema"
            ));
        }
        self.require_bucket(&bucket).await?;
        let (objects, rights) = (self.objects.clone(), self.rights.clone());
        let quiet = delete.quiet.unwrap_or(false);
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        let outcomes = blocking(move || {
            let remove = |object: ObjectIdentifier| {
                let version = object.version_id.as_deref();
                let outcome = rights.may_delete(&bucket, &object.key, version).and_then(|()| {
                    objects.delete_version(&bucket, &object.key, version).map_err(shapes::error)
                });
                (object.key, object.version_id, outcome)
            };
            Ok(delete.objects.into_iter().map(remove).collect::<Vec<_>>())
        })
        .await?;
        for (key, version_id, outcome) in outcomes {
            match outcome {
                Ok(gone) => deleted.push(DeletedObject {
                    key: Some(key),
                    delete_marker: gone.is_marker.then_some(true),
                    delete_marker_version_id: gone.version.filter(|_| gone.is_marker),
                    version_id,
                }),
                Err(error) => errors.push(shapes::listed_error(key, &error)),
            }
        }
        answer(DeleteObjectsOutput {
            deleted: Some(if quiet { Vec::new() } else { deleted }),
            errors: Some(errors),
            request_charged: None,
        })
    }

    // The CLI asks for tags when it copies large objects. Nothing here has any.
    async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let input = request.input;
        let version = input.version_id.clone();
        self.store(move |objects| objects.get_version(&input.bucket, &input.key, version.as_deref())).await?;
        answer(GetObjectTaggingOutput { tag_set: Vec::new(), version_id: input.version_id })
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let mut input = request.input;
        let mut metadata = metadata_of!(input);
        metadata.encryption = shapes::asked(input.server_side_encryption.take(), input.ssekms_key_id.take());
        let (bucket, key) = (input.bucket.clone(), input.key.clone());
        let id = self.store(move |objects| objects.create_upload(&bucket, &key, metadata)).await?;
        answer(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: input.checksum_type,
            ..Default::default()
        })
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let mut input = request.input;
        self.require_upload(&input.upload_id, &input.bucket, &input.key).await?;
        let checksum = Checksum {
            checksum_crc32: input.checksum_crc32.take(),
            checksum_crc32c: input.checksum_crc32c.take(),
            checksum_crc64nvme: input.checksum_crc64nvme.take(),
            checksum_sha1: input.checksum_sha1.take(),
            checksum_sha256: input.checksum_sha256.take(),
            checksum_type: None,
        };
        let algorithm = input.checksum_algorithm.as_ref();
        let promise = Promise::new(
            checksum,
            algorithm,
            input.content_md5.take(),
            &request.headers,
            request.trailing_headers,
        );
        let number = part_number(input.part_number);
        let writer = self.store(move |objects| objects.put_part(&input.upload_id, number)).await?;
        let (writer, mut checksums) = receive(input.body, writer, promise).await?;
        let part = blocking(move || writer.finish().map_err(shapes::error)).await?;
        answer(UploadPartOutput {
            e_tag: shapes::etag(&part.etag),
            checksum_crc32: checksums.remove("CRC32"),
            checksum_crc32c: checksums.remove("CRC32C"),
            checksum_crc64nvme: checksums.remove("CRC64NVME"),
            checksum_sha1: checksums.remove("SHA1"),
            checksum_sha256: checksums.remove("SHA256"),
            ..Default::default()
        })
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let mut input = request.input;
        self.require_upload(&input.upload_id, &input.bucket, &input.key).await?;
        let from = source(&input.copy_source)?;
        let (file, info) =
            self.store(move |objects| objects.get_version(&from.0, &from.1, from.2.as_deref())).await?;
        let conditions = Conditions {
            if_match: input.copy_source_if_match.take(),
            if_none_match: input.copy_source_if_none_match.take(),
            if_modified_since: input.copy_source_if_modified_since.take(),
            if_unmodified_since: input.copy_source_if_unmodified_since.take(),
        };
        conditions.check_source(&info)?;
        let range = match &input.copy_source_range {
            Some(range) => span(parse_range(range)?, info.size)?,
            None => 0..info.size,
        };
        let number = part_number(input.part_number);
        let writer = self.store(move |objects| objects.put_part(&input.upload_id, number)).await?;
        let (writer, _) = receive(Some(outgoing::send(file, range)), writer, Promise::default()).await?;
        let part = blocking(move || writer.finish().map_err(shapes::error)).await?;
        let result = CopyPartResult {
            e_tag: shapes::etag(&part.etag),
            last_modified: Some(part.modified.into()),
            ..Default::default()
        };
        answer(UploadPartCopyOutput { copy_part_result: Some(result), ..Default::default() })
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        self.require_upload(&input.upload_id, &input.bucket, &input.key).await?;
        if input.if_match.is_some() || input.if_none_match.is_some() {
            return Err(s3_error!(
                NotImplemented,
                "Conditions on CompleteMultipartUpload are not implemented"
            ));
        }
        let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        if parts.is_empty() {
            return Err(s3_error!(
                MalformedXML,
                "The XML you provided was not well-formed or did not validate against our published schema"
            ));
        }
        let parts: Vec<(u32, String)> = parts
            .into_iter()
            .map(|part| {
                (
                    part_number(part.part_number.unwrap_or(0)),
                    part.e_tag.map(ETag::into_value).unwrap_or_default(),
                )
            })
            .collect();
        let id = input.upload_id;
        let info = self.store(move |objects| objects.complete_upload(&id, &parts)).await?;
        answer(CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: shapes::etag(&info.etag),
            version_id: info.version,
            server_side_encryption: shapes::encryption(&info.metadata),
            ssekms_key_id: shapes::encryption_key(&info.metadata),
            ..Default::default()
        })
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        self.require_upload(&input.upload_id, &input.bucket, &input.key).await?;
        self.store(move |objects| objects.abort_upload(&input.upload_id)).await?;
        answer(AbortMultipartUploadOutput::default())
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        self.require_upload(&input.upload_id, &input.bucket, &input.key).await?;
        let id = input.upload_id.clone();
        let after = part_number(input.part_number_marker.unwrap_or(0));
        let max = page_size(input.max_parts);
        let mut parts = self.store(move |objects| objects.list_parts(&id)).await?;
        parts.retain(|part| part.number > after);
        let truncated = parts.len() > max;
        parts.truncate(max);
        let part = |info: &store::objects::PartInfo| Part {
            part_number: Some(info.number as i32),
            size: Some(info.size as i64),
            e_tag: shapes::etag(&info.etag),
            last_modified: Some(info.modified.into()),
            ..Default::default()
        };
        answer(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            is_truncated: Some(truncated),
            max_parts: Some(max as i32),
            part_number_marker: input.part_number_marker,
            next_part_number_marker: parts.last().map(|part| part.number as i32),
            parts: Some(parts.iter().map(part).collect()),
            owner: Some(self.owner()),
            ..Default::default()
        })
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        if input.delimiter.as_ref().is_some_and(|delimiter| !delimiter.is_empty()) {
            return Err(s3_error!(NotImplemented, "A delimiter is not implemented for ListMultipartUploads"));
        }
        let bucket = input.bucket.clone();
        let mut uploads = self.store(move |objects| objects.list_uploads(&bucket)).await?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = (
            input.key_marker.clone().unwrap_or_default(),
            input.upload_id_marker.clone().unwrap_or_default(),
        );
        uploads.retain(|upload| upload.key.starts_with(&prefix));
        // Without an upload id, a key marker is behind all uploads of its key.
        uploads.retain(|upload| match (upload.key.cmp(&after.0), after.1.is_empty()) {
            (std::cmp::Ordering::Equal, false) => upload.upload_id > after.1,
            (order, _) => after.0.is_empty() || order.is_gt(),
        });
        uploads.sort_by(|a, b| (&a.key, &a.upload_id).cmp(&(&b.key, &b.upload_id)));
        let max = page_size(input.max_uploads);
        let truncated = uploads.len() > max;
        uploads.truncate(max);
        let url_encoded = is_url(input.encoding_type.as_ref());
        let last = uploads.last().filter(|_| truncated);
        let upload = |info: &store::objects::UploadInfo| MultipartUpload {
            key: Some(shapes::listed(&info.key, url_encoded)),
            upload_id: Some(info.upload_id.clone()),
            initiated: Some(info.initiated.into()),
            owner: Some(self.owner()),
            ..Default::default()
        };
        answer(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: input.prefix.map(|prefix| shapes::listed(&prefix, url_encoded)),
            key_marker: input.key_marker.map(|marker| shapes::listed(&marker, url_encoded)),
            upload_id_marker: input.upload_id_marker,
            max_uploads: Some(max as i32),
            is_truncated: Some(truncated),
            next_key_marker: last.map(|upload| shapes::listed(&upload.key, url_encoded)),
            next_upload_id_marker: last.map(|upload| upload.upload_id.clone()),
            encoding_type: input.encoding_type,
            uploads: Some(uploads.iter().map(upload).collect()),
            ..Default::default()
        })
    }
}

/// The bytes that a range means in an object of this size.
fn span(range: Range, size: u64) -> S3Result<std::ops::Range<u64>> {
    range.check(size).map_err(|_| s3_error!(InvalidRange, "The requested range is not satisfiable"))
}

fn parse_range(text: &str) -> S3Result<Range> {
    Range::parse(text).map_err(|_| {
        s3_error!(InvalidArgument, "The x-amz-copy-source-range value must be of the form bytes=first-last")
    })
}

fn content_range(range: &std::ops::Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1))
}

/// A part number of any size; the store knows which ones there are.
fn part_number(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

fn page_size(asked: Option<i32>) -> usize {
    asked.map_or(PAGE_MAX, |max| usize::try_from(max).unwrap_or(0).min(PAGE_MAX))
}
