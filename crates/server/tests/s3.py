# Run by tests/server.rs with boto3, `client`, `refused` and `endpoint` at hand.
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
import base64, datetime, hmac, zlib

s3 = client("s3")
s3.create_bucket(Bucket="bucket")
refused("BucketAlreadyOwnedByYou", s3.create_bucket, Bucket="bucket")
assert s3.get_bucket_location(Bucket="bucket")["LocationConstraint"] is None
assert s3.get_bucket_acl(Bucket="bucket")["Grants"][0]["Permission"] == "FULL_CONTROL"
assert "Status" not in s3.get_bucket_versioning(Bucket="bucket")
assert s3.head_bucket(Bucket="bucket")["BucketRegion"] == "us-east-1"
refused("404", s3.head_bucket, Bucket="absent")
refused("NoSuchBucket", s3.list_objects_v2, Bucket="absent")

# Metadata, ranges, conditions.
put = s3.put_object(Bucket="bucket", Key="a", Body=b"0123456789", ContentType="text/x", CacheControl="no-store",
                    ContentDisposition="inline", ContentLanguage="de", Metadata={"codebuild-buildarn": "arn:x"})
etag = put["ETag"]
assert etag == '"%s"' % hashlib.md5(b"0123456789").hexdigest()
got = s3.get_object(Bucket="bucket", Key="a")
assert got["Body"].read() == b"0123456789" and got["ETag"] == etag and got["ContentLength"] == 10
assert (got["ContentType"], got["CacheControl"], got["ContentDisposition"], got["ContentLanguage"]) == (
    "text/x", "no-store", "inline", "de")
assert got["Metadata"] == {"codebuild-buildarn": "arn:x"}
assert got["ChecksumCRC32"] == base64.b64encode(zlib.crc32(b"0123456789").to_bytes(4, "big")).decode()
for header, body, span in [("bytes=2-4", b"234", "bytes 2-4/10"), ("bytes=-3", b"789", "bytes 7-9/10"),
                           ("bytes=5-", b"56789", "bytes 5-9/10"), ("bytes=8-99", b"89", "bytes 8-9/10")]:
    part = s3.get_object(Bucket="bucket", Key="a", Range=header)
    assert part["Body"].read() == body and part["ContentRange"] == span, header
    assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
refused("InvalidRange", s3.get_object, Bucket="bucket", Key="a", Range="bytes=10-")
refused("NoSuchKey", s3.get_object, Bucket="bucket", Key="b")
refused("404", s3.head_object, Bucket="bucket", Key="b")
s3.get_object(Bucket="bucket", Key="a", IfMatch=etag)
refused("PreconditionFailed", s3.get_object, Bucket="bucket", Key="a", IfMatch='"0"')
refused("304", s3.get_object, Bucket="bucket", Key="a", IfNoneMatch=etag)
modified = got["LastModified"]
refused("304", s3.get_object, Bucket="bucket", Key="a", IfModifiedSince=modified)
s3.get_object(Bucket="bucket", Key="a", IfUnmodifiedSince=modified)
refused("412", s3.head_object, Bucket="bucket", Key="a", IfUnmodifiedSince=modified - datetime.timedelta(1))
refused("PreconditionFailed", s3.put_object, Bucket="bucket", Key="a", Body=b"x", IfNoneMatch="*")
refused("PreconditionFailed", s3.put_object, Bucket="bucket", Key="a", Body=b"x", IfMatch='"0"')
s3.put_object(Bucket="bucket", Key="a", Body=b"0123456789", IfMatch=etag)
assert s3.get_object(Bucket="bucket", Key="a")["ContentType"] == "binary/octet-stream"

# Checksums: every algorithm is kept and checked.
for algorithm in ["CRC32", "CRC64NVME", "SHA1", "SHA256"]:
    try: answer = s3.put_object(Bucket="bucket", Key="sum", Body=b"sum", ChecksumAlgorithm=algorithm)
    except botocore.exceptions.MissingDependencyException: continue
    assert answer["Checksum" + algorithm], algorithm
    s3.get_object(Bucket="bucket", Key="sum", ChecksumMode="ENABLED")["Body"].read()
refused("BadDigest", s3.put_object, Bucket="bucket", Key="bad", Body=b"x", ChecksumSHA256=base64.b64encode(b"0" * 32).decode())
refused("BadDigest", s3.put_object, Bucket="bucket", Key="bad", Body=b"x", ContentMD5=base64.b64encode(b"0" * 16).decode())
refused("404", s3.head_object, Bucket="bucket", Key="bad")

# Listings, whatever the keys are made of.
keys = sorted(["a", "sum", "d/1", "d/2", "d/e/3", "sp ace/ü+&<x>.txt", "sp ace/%41", "tab\t"], key=lambda key: key.encode())
for key in keys: s3.put_object(Bucket="bucket", Key=key, Body=key.encode())
for name in ["list_objects", "list_objects_v2"]:
    for size in [1, 2, 1000]:
        pages = s3.get_paginator(name).paginate(Bucket="bucket", PaginationConfig={"PageSize": size})
        assert [o["Key"] for page in pages for o in page.get("Contents", [])] == keys, (name, size)
        pages = list(s3.get_paginator(name).paginate(Bucket="bucket", Delimiter="/", PaginationConfig={"PageSize": size}))
        assert [p["Prefix"] for page in pages for p in page.get("CommonPrefixes", [])] == ["d/", "sp ace/"]
        assert [o["Key"] for page in pages for o in page.get("Contents", [])] == ["a", "sum", "tab\t"]
listed = s3.list_objects_v2(Bucket="bucket", Prefix="d/", Delimiter="/", StartAfter="d/1")
assert [o["Key"] for o in listed["Contents"]] == ["d/2"] and listed["CommonPrefixes"] == [{"Prefix": "d/e/"}]
for key in keys: assert s3.get_object(Bucket="bucket", Key=key)["Body"].read() in (key.encode(), b"0123456789")
refused("InvalidArgument", s3.list_objects_v2, Bucket="bucket", ContinuationToken="*")

# Copies.
s3.copy_object(Bucket="bucket", Key="copy ü", CopySource={"Bucket": "bucket", "Key": "sp ace/ü+&<x>.txt"})
assert s3.get_object(Bucket="bucket", Key="copy ü")["Body"].read() == "sp ace/ü+&<x>.txt".encode()
s3.copy_object(Bucket="bucket", Key="a", CopySource="bucket/a", MetadataDirective="REPLACE", Metadata={"n": "1"})
assert s3.head_object(Bucket="bucket", Key="a")["Metadata"] == {"n": "1"}
refused("PreconditionFailed", s3.copy_object, Bucket="bucket", Key="a", CopySource="bucket/a", CopySourceIfMatch='"0"')
refused("NoSuchKey", s3.copy_object, Bucket="bucket", Key="a", CopySource="bucket/absent")

# Deletes.
deleted = s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "d/1"}, {"Key": "absent"}]})
assert sorted(d["Key"] for d in deleted["Deleted"]) == ["absent", "d/1"] and "Errors" not in deleted
assert "Deleted" not in s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "d/2"}], "Quiet": True})
s3.delete_object(Bucket="bucket", Key="d/e/3")
s3.delete_object(Bucket="bucket", Key="d/e/3")
assert "Contents" not in s3.list_objects_v2(Bucket="bucket", Prefix="d/")

# Multipart uploads.
s3.put_object(Bucket="bucket", Key="pre/a", Body=b"0123456789")
five = os.urandom(5 * 1024 * 1024)
upload = s3.create_multipart_upload(Bucket="bucket", Key="multi", Metadata={"m": "1"}, ContentType="text/m")["UploadId"]
here = dict(Bucket="bucket", Key="multi", UploadId=upload)
one = s3.upload_part(PartNumber=1, Body=five, **here)["ETag"]
two = s3.upload_part_copy(PartNumber=2, CopySource="bucket/pre/a", CopySourceRange="bytes=2-5", **here)["CopyPartResult"]["ETag"]
assert [u["UploadId"] for u in s3.list_multipart_uploads(Bucket="bucket")["Uploads"]] == [upload]
parts = s3.list_parts(MaxParts=1, **here)
assert parts["IsTruncated"] and parts["Parts"][0]["Size"] == len(five)
assert [p["PartNumber"] for page in s3.get_paginator("list_parts").paginate(**here) for p in page["Parts"]] == [1, 2]
both = lambda *parts: {"Parts": [{"PartNumber": n, "ETag": e} for n, e in parts]}
refused("InvalidPart", s3.complete_multipart_upload, MultipartUpload=both((1, one), (3, two)), **here)
refused("InvalidPartOrder", s3.complete_multipart_upload, MultipartUpload=both((2, two), (1, one)), **here)
refused("NoSuchUpload", s3.list_parts, Bucket="bucket", Key="other", UploadId=upload)
done = s3.complete_multipart_upload(MultipartUpload=both((1, one), (2, two)), **here)
assert done["ETag"].endswith('-2"')
got = s3.get_object(Bucket="bucket", Key="multi")
assert got["Body"].read() == five + b"2345" and got["Metadata"] == {"m": "1"} and got["ContentType"] == "text/m"
refused("NoSuchUpload", s3.upload_part, PartNumber=1, Body=b"", **here)
upload = s3.create_multipart_upload(Bucket="bucket", Key="multi")["UploadId"]
s3.abort_multipart_upload(Bucket="bucket", Key="multi", UploadId=upload)
refused("NoSuchUpload", s3.abort_multipart_upload, Bucket="bucket", Key="multi", UploadId=upload)
assert "Uploads" not in s3.list_multipart_uploads(Bucket="bucket")

# Presigned requests, also with the bucket in the host's name.
def answered(url, method="GET", body=None):
    host, path = url.split("/", 3)[2], "/" + url.split("/", 3)[3]
    connection = http.client.HTTPConnection("127.0.0.1", int(host.rsplit(":", 1)[1]))
    connection.request(method, path, body, {"Host": host})
    return connection.getresponse()
def fetch(*request):
    answer = answered(*request)
    return answer.status, answer.read()
for style, version in [("path", "s3v4"), ("virtual", "s3v4"), ("path", "s3"), ("virtual", "s3"), ("path", None)]:
    signer = boto3.client("s3", config=Config(signature_version=version, s3={"addressing_style": style}))
    url = signer.generate_presigned_url("put_object", {"Bucket": "bucket", "Key": "pre signed/ü"}, 60)
    assert style == "path" or url.startswith("http://bucket.localhost:"), url
    assert fetch(url, "PUT", b"presigned " + style.encode())[0] == 200
    assert fetch(url)[0] == 403
    url = signer.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "pre signed/ü"}, 60)
    assert fetch(url) == (200, b"presigned " + style.encode())
    assert ("AWSAccessKeyId=" in url) == (version != "s3v4"), url
    assert fetch(url.replace("Expires=", "Expires=1"))[0] in (400, 403)
    assert fetch(url + "&x=1")[0] == 403
    # What an answer is to be named, and what an upload is to keep, come with the link.
    url = signer.generate_presigned_url("get_object", {
        "Bucket": "bucket", "Key": "pre signed/ü", "ResponseContentType": "text/y; a=b+c", "ResponseCacheControl": "no-store"}, 60)
    got = answered(url).headers
    assert (got["Content-Type"], got["Cache-Control"]) == ("text/y; a=b+c", "no-store")
    url = signer.generate_presigned_url("list_objects_v2", {"Bucket": "bucket", "Prefix": "pre signed/"}, 60)
    status, text = fetch(url)
    assert status == 200 and b"<Key>pre%20signed/%C3%BC</Key>" in text, text
    url = signer.generate_presigned_url("put_object", {"Bucket": "bucket", "Key": "m", "Metadata": {"n": "a b"}}, 60)
    if version != "s3v4":
        assert fetch(url, "PUT", b"m")[0] == 200
        assert s3.head_object(Bucket="bucket", Key="m")["Metadata"] == {"n": "a b"}
    upload = s3.create_multipart_upload(Bucket="bucket", Key="parts")["UploadId"]
    url = signer.generate_presigned_url("upload_part", {"Bucket": "bucket", "Key": "parts", "UploadId": upload, "PartNumber": 1}, 60)
    assert fetch(url, "PUT", b"part")[0] == 200
    assert fetch(url.replace("partNumber=1", "partNumber=2"), "PUT", b"part")[0] == 403
    s3.abort_multipart_upload(Bucket="bucket", Key="parts", UploadId=upload)

# Bodies in signed or unsigned chunks, with a checksum behind them.
host = endpoint[7:]
keys = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
def chunked(kind, key, body, trailer=None, spoil=None):
    class Signer(S3SigV4Auth):
        def payload(self, request): return kind
    headers = {"X-Amz-Content-SHA256": kind, "X-Amz-Decoded-Content-Length": str(len(body)), "Content-Encoding": "aws-chunked"}
    if trailer: headers["X-Amz-Trailer"] = "x-amz-checksum-crc32"
    request = AWSRequest("PUT", f"{endpoint}/bucket/{key}", headers=headers)
    signer = Signer(keys, "s3", "us-east-1")
    signer.add_auth(request)
    date = request.headers["X-Amz-Date"]
    scope = f"{date[:8]}/us-east-1/s3/aws4_request"
    signature = request.headers["Authorization"].rsplit("=", 1)[1]
    key = b"AWS4" + keys.secret_key.encode()
    for part in scope.split("/"): key = hmac.new(key, part.encode(), "sha256").digest()
    def sign(kind, *lines):
        return hmac.new(key, "\n".join([kind, date, scope, *lines]).encode(), "sha256").hexdigest()
    wire, empty = b"", hashlib.sha256(b"").hexdigest()
    for piece in [body[i:i + 65536] for i in range(0, len(body), 65536)] + [b""]:
        extension = ""
        if "HMAC" in kind:
            signature = sign("AWS4-HMAC-SHA256-PAYLOAD", signature, empty, hashlib.sha256(piece).hexdigest())
            extension = ";chunk-signature=" + signature
        wire += f"{len(piece):x}{extension}\r\n".encode() + piece + (b"\r\n" if piece else b"")
    if trailer:
        line = f"x-amz-checksum-crc32:{trailer}"
        wire += line.encode() + b"\r\n"
        if "HMAC" in kind:
            wire += b"x-amz-trailer-signature:" + sign(
                "AWS4-HMAC-SHA256-TRAILER", signature, hashlib.sha256(line.encode() + b"\n").hexdigest()).encode() + b"\r\n"
    wire += b"\r\n"
    if spoil: wire = wire.replace(spoil, spoil.swapcase(), 1)
    connection = http.client.HTTPConnection(host)
    connection.request("PUT", request.url[len(endpoint):], wire, dict(request.headers))
    answer = connection.getresponse()
    return answer.status, answer.read()
body = b"chunk" + os.urandom(200_000)
crc = lambda data: base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
for kind, trailer in [("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", None), ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", crc(body)),
                      ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", crc(body))]:
    name = kind.lower()
    status, text = chunked(kind, name, body, trailer)
    assert status == 200, (kind, text)
    got = s3.get_object(Bucket="bucket", Key=name)
    assert got["Body"].read() == body and "ContentEncoding" not in got, kind
    if trailer:
        assert got["ChecksumCRC32"] == trailer
        status, text = chunked(kind, name + "-bad", body, crc(b"other"))
        assert status == 400 and b"BadDigest" in text, (kind, text)
    if "HMAC" in kind:
        status, text = chunked(kind, name + "-bad", body, trailer, spoil=b"chunk" + body[5:8])
        assert status == 403 and b"SignatureDoesNotMatch" in text, (kind, text)
    refused("404", s3.head_object, Bucket="bucket", Key=name + "-bad")

# What is not there says so.
refused("NotImplemented", s3.get_bucket_policy, Bucket="bucket")
refused("NoSuchVersion", s3.get_object, Bucket="bucket", Key="a", VersionId="1")
refused("SignatureDoesNotMatch", boto3.client("s3", aws_access_key_id=keys.access_key, aws_secret_access_key="wrong").list_buckets)
# The refusal of a wrong region names the right one, and SDKs follow it.
boto3.client("s3", region_name="eu-west-1").list_objects_v2(Bucket="bucket")
assert fetch(endpoint + "/bucket/a") [0] == 403
