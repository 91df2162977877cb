# Two accounts with a user each that may do everything, somebody who may do nothing, and somebody who may do a little.
SECRET = os.environ["AWS_SECRET_ACCESS_KEY"]


def of(key, service):
    return boto3.client(
        service, aws_access_key_id=key, aws_secret_access_key=SECRET, config=Config(s3={"addressing_style": "path"})
    )


def denied(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert code in ("AccessDenied", "403") and status == 403, error.response
        return error.response
    raise AssertionError("AccessDenied expected")


ALICE, EVE, NOBODY, PARTLY = "AKIDEXAMPLE", "AKIDEVE", "AKIDNOBODY", "AKIDPARTLY"
alice, eve, nobody, partly = (of(key, "s3") for key in (ALICE, EVE, NOBODY, PARTLY))

# Buckets: names are everybody's, what is in them is not.
alice.create_bucket(Bucket="of-alice")
alice.put_object(Bucket="of-alice", Key="in/a", Body=b"a")
alice.put_object(Bucket="of-alice", Key="secret/b", Body=b"b")
upload = alice.create_multipart_upload(Bucket="of-alice", Key="large")["UploadId"]
eve.create_bucket(Bucket="of-eve")
eve.put_object(Bucket="of-eve", Key="e", Body=b"e")
os.mkdir("objects/by-hand")

names = lambda client: [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
assert names(alice) == ["by-hand", "of-alice"], names(alice)
assert names(eve) == ["of-eve"], names(eve)
assert alice.get_bucket_acl(Bucket="of-alice")["Owner"]["ID"] == "123456789012"
assert eve.get_bucket_acl(Bucket="of-eve")["Owner"]["ID"] == "444455556666"
refused("BucketAlreadyExists", eve.create_bucket, Bucket="of-alice")
refused("BucketAlreadyOwnedByYou", eve.create_bucket, Bucket="of-eve")
refused("BucketAlreadyExists", eve.create_bucket, Bucket="by-hand")

part = {"Bucket": "of-alice", "Key": "large", "UploadId": upload}
parts = {"Parts": [{"PartNumber": 1, "ETag": "x"}]}


def everything(client, bucket="of-alice", key="in/a"):
    """Every operation on a bucket and its objects."""
    object = {"Bucket": bucket, "Key": key}
    large = part | {"Bucket": bucket}
    yield client.head_bucket, {"Bucket": bucket}
    yield client.get_bucket_location, {"Bucket": bucket}
    yield client.get_bucket_acl, {"Bucket": bucket}
    yield client.get_bucket_versioning, {"Bucket": bucket}
    yield client.list_objects, {"Bucket": bucket}
    yield client.list_objects_v2, {"Bucket": bucket}
    yield client.get_object, object
    yield client.head_object, object
    yield client.put_object, object | {"Body": b"mine"}
    yield client.copy_object, object | {"CopySource": "of-eve/e"}
    yield client.delete_object, object
    yield client.get_object_tagging, object
    yield client.create_multipart_upload, object
    yield client.upload_part, large | {"PartNumber": 1, "Body": b"mine"}
    yield client.upload_part_copy, large | {"PartNumber": 1, "CopySource": "of-eve/e"}
    yield client.complete_multipart_upload, large | {"MultipartUpload": parts}
    yield client.abort_multipart_upload, large
    yield client.list_parts, large
    yield client.list_multipart_uploads, {"Bucket": bucket}
    yield client.delete_bucket, {"Bucket": bucket}
    # What this version does not have is not told apart by those who may not.
    yield client.get_bucket_policy, {"Bucket": bucket}
    yield client.delete_bucket_policy, {"Bucket": bucket}


for client in (eve, nobody):
    for call, arguments in everything(client):
        denied(call, **arguments)
for call, arguments in everything(nobody, bucket="of-nobody-at-all"):
    denied(call, **arguments)
denied(nobody.list_buckets)
denied(nobody.create_bucket, Bucket="of-nobody")
denied(eve.copy_object, Bucket="of-eve", Key="stolen", CopySource="of-alice/in/a")
own = eve.create_multipart_upload(Bucket="of-eve", Key="large")["UploadId"]
stolen = {"Bucket": "of-eve", "Key": "large", "PartNumber": 1}
denied(eve.upload_part_copy, **stolen, UploadId=own, CopySource="of-alice/in/a")
refused("NoSuchUpload", eve.upload_part, **stolen, UploadId=upload, Body=b"mine")
several = {"Objects": [{"Key": "in/a"}, {"Key": "secret/b"}]}
denied(eve.delete_objects, Bucket="of-alice", Delete=several)
left = nobody.delete_objects(Bucket="of-alice", Delete=several)
assert [error["Code"] for error in left["Errors"]] == ["AccessDenied"] * 2 and "Deleted" not in left, left
link = eve.generate_presigned_url("get_object", {"Bucket": "of-alice", "Key": "in/a"})
try:
    urllib.request.urlopen(link)
    raise AssertionError("a link to another account's object works")
except urllib.error.HTTPError as error:
    assert error.code == 403, error.code

# A little: one folder, to read and to list.
assert partly.get_object(Bucket="of-alice", Key="in/a")["Body"].read() == b"a"
assert [one["Key"] for one in partly.list_objects_v2(Bucket="of-alice", Prefix="in/")["Contents"]] == ["in/a"]
why = denied(partly.get_object, Bucket="of-alice", Key="secret/b")["Error"]["Message"]
assert "s3:GetObject on resource: arn:aws:s3:::of-alice/secret/b because no identity-based policy allows" in why, why
denied(partly.list_objects_v2, Bucket="of-alice")
denied(partly.list_objects, Bucket="of-alice", Prefix="secret/")
denied(partly.copy_object, Bucket="of-alice", Key="in/c", CopySource="of-alice/secret/b")
denied(partly.put_object, Bucket="of-alice", Key="in/a", Body=b"")

# Nothing was changed by all this.
assert sorted(one["Key"] for one in alice.list_objects_v2(Bucket="of-alice")["Contents"]) == ["in/a", "secret/b"]
assert alice.get_object(Bucket="of-alice", Key="in/a")["Body"].read() == b"a"
assert [one["UploadId"] for one in alice.list_multipart_uploads(Bucket="of-alice")["Uploads"]] == [upload]

# Logs, parameters and secrets: names are each account's own, and an ARN of elsewhere names nothing.
logs, logs_of_eve = of(ALICE, "logs"), of(EVE, "logs")
logs.create_log_group(logGroupName="/demo")
logs.create_log_stream(logGroupName="/demo", logStreamName="one")
group = "arn:aws:logs:us-east-1:123456789012:log-group:/demo"
assert logs_of_eve.describe_log_groups()["logGroups"] == []
refused("ResourceNotFoundException", logs_of_eve.get_log_events, logGroupName="/demo", logStreamName="one")
for call, arguments in [
    (logs_of_eve.get_log_events, {"logGroupIdentifier": group, "logStreamName": "one"}),
    (logs_of_eve.filter_log_events, {"logGroupIdentifier": group}),
    (logs_of_eve.describe_log_streams, {"logGroupIdentifier": group}),
    (logs_of_eve.list_tags_for_resource, {"resourceArn": group}),
    (logs_of_eve.tag_resource, {"resourceArn": group, "tags": {"a": "b"}}),
    (logs_of_eve.untag_resource, {"resourceArn": group, "tagKeys": ["a"]}),
]:
    refused("ResourceNotFoundException", call, **arguments)

ssm, ssm_of_eve, ssm_partly = of(ALICE, "ssm"), of(EVE, "ssm"), of(PARTLY, "ssm")
ssm.put_parameter(Name="/app/a", Value="of alice", Type="SecureString")
ssm.put_parameter(Name="/other/b", Value="of alice", Type="String")
arn = ssm.get_parameter(Name="/app/a")["Parameter"]["ARN"]
assert ssm_of_eve.describe_parameters()["Parameters"] == []
for name in ("/app/a", arn):
    refused("ParameterNotFound", ssm_of_eve.get_parameter, Name=name)
    refused("ParameterNotFound", ssm_of_eve.delete_parameter, Name=name)
assert ssm_of_eve.get_parameters(Names=[arn])["Parameters"] == []
assert ssm_partly.get_parameter(Name="/app/a")["Parameter"]["Name"] == "/app/a"
assert [one["Name"] for one in ssm_partly.get_parameters_by_path(Path="/app")["Parameters"]] == ["/app/a"]
for name in ("/other/b", arn.replace("app/a", "other/b"), arn.replace("app/a", "other/b").replace("arn:aws:", "arn:x:")):
    refused("AccessDeniedException", ssm_partly.get_parameter, Name=name)
    refused("AccessDeniedException", ssm_partly.get_parameters, Names=["/app/a", name])

secrets, secrets_of_eve, secrets_partly = (of(key, "secretsmanager") for key in (ALICE, EVE, PARTLY))
arn = secrets.create_secret(Name="app-a", SecretString="of alice")["ARN"]
other = secrets.create_secret(Name="other", SecretString="of alice", Tags=[{"Key": "team", "Value": "red"}])["ARN"]
third = secrets.create_secret(Name="third", SecretString="of alice")["ARN"]
assert secrets_of_eve.list_secrets()["SecretList"] == []
for name in ("app-a", arn):
    refused("ResourceNotFoundException", secrets_of_eve.get_secret_value, SecretId=name)
    refused("ResourceNotFoundException", secrets_of_eve.delete_secret, SecretId=name)
for name in ("app-a", arn, "other", other, other.replace("arn:aws:", "arn:x:"), other[:-7]):
    assert secrets_partly.get_secret_value(SecretId=name)["SecretString"] == "of alice"
for name in ("third", third, third[:-7], "nothing"):
    refused("AccessDeniedException", secrets_partly.get_secret_value, SecretId=name)

# Whoever has a key may ask who he is.
assert of(NOBODY, "sts").get_caller_identity()["Arn"] == "arn:aws:iam::123456789012:user/nobody"
assert of(EVE, "sts").get_caller_identity()["Account"] == "444455556666"
