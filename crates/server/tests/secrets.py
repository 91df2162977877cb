# Run by tests/server.rs with boto3, `client` and `refused` at hand.
import re, uuid
api = client("secretsmanager", parameter_validation=False)

# Made, read, found again.
made = api.create_secret(Name="prod/db", SecretString='{"user":"u"}', Description="d", KmsKeyId="alias/k",
                         Tags=[{"Key": "team", "Value": "blue"}])
assert re.fullmatch(r"arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db-[A-Za-z0-9]{6}", made["ARN"])
first = made["VersionId"]
got = api.get_secret_value(SecretId="prod/db")
assert (got["SecretString"], got["VersionId"], got["VersionStages"], got["ARN"], got["Name"]) == (
    '{"user":"u"}', first, ["AWSCURRENT"], made["ARN"], "prod/db")
assert "SecretBinary" not in got and abs(got["CreatedDate"].timestamp() - time.time()) < 60
for id in (made["ARN"], made["ARN"][:-7]):
    assert api.get_secret_value(SecretId=id)["VersionId"] == first
error = refused("ResourceNotFoundException", api.get_secret_value, SecretId="nobody")
assert error["Error"]["Message"] == "Secrets Manager can't find the specified secret."
error = refused("ResourceNotFoundException", api.get_secret_value, SecretId="prod/db", VersionStage="AWSPREVIOUS")
assert error["Error"]["Message"].endswith("staging label: AWSPREVIOUS")
refused("ResourceNotFoundException", api.get_secret_value, SecretId="prod/db", VersionId=str(uuid.uuid4()))
error = refused("ResourceExistsException", api.create_secret, Name="prod/db", SecretString="x")
assert "the secret prod/db already exists" in error["Error"]["Message"]

# A token makes a request that can be sent again.
token = str(uuid.uuid4())
for _ in range(2):
    put = api.put_secret_value(SecretId="prod/db", SecretString="two", ClientRequestToken=token)
    assert (put["VersionId"], put["VersionStages"]) == (token, ["AWSCURRENT"])
refused("ResourceExistsException", api.put_secret_value, SecretId="prod/db", SecretString="other", ClientRequestToken=token)
assert api.get_secret_value(SecretId="prod/db", VersionStage="AWSPREVIOUS")["VersionId"] == first
assert api.get_secret_value(SecretId="prod/db", VersionId=token, VersionStage="AWSCURRENT")["SecretString"] == "two"
refused("ResourceNotFoundException", api.get_secret_value, SecretId="prod/db", VersionId=token, VersionStage="AWSPREVIOUS")
again = dict(Name="twice", SecretString="same", ClientRequestToken=str(uuid.uuid4()))
assert api.create_secret(**again)["ARN"] == api.create_secret(**again)["ARN"]
refused("ResourceExistsException", api.create_secret, **{**again, "SecretString": "different"})

# Stages.
pending = api.put_secret_value(SecretId="prod/db", SecretString="three", VersionStages=["AWSPENDING", "mine"])["VersionId"]
described = api.describe_secret(SecretId="prod/db")
assert {v: sorted(s) for v, s in described["VersionIdsToStages"].items()} == {
    first: ["AWSPREVIOUS"], token: ["AWSCURRENT"], pending: ["AWSPENDING", "mine"]}
assert (described["Description"], described["KmsKeyId"], described["Tags"]) == ("d", "alias/k", [{"Key": "team", "Value": "blue"}])
assert "DeletedDate" not in described and described["LastChangedDate"] >= described["CreatedDate"]

# Binary, none at all, and both.
api.create_secret(Name="binary", SecretBinary=b"\x00\xff")
assert api.get_secret_value(SecretId="binary")["SecretBinary"] == b"\x00\xff"
assert "VersionId" not in api.create_secret(Name="empty")
refused("ResourceNotFoundException", api.get_secret_value, SecretId="empty")
refused("InvalidParameterException", api.create_secret, Name="both", SecretString="a", SecretBinary=b"a")
refused("InvalidRequestException", api.put_secret_value, SecretId="empty")
api.create_secret(Name="long", SecretString="x" * 65536)
error = refused("ValidationException", api.create_secret, Name="longer", SecretString="x" * 65537)
assert "'secretString'" in error["Error"]["Message"] and "xxx" not in error["Error"]["Message"]
refused("InvalidParameterException", api.create_secret, Name="longer", SecretString="é" * 40000)
refused("ValidationException", api.create_secret, Name="a b", SecretString="x")

# Changed.
api.update_secret(SecretId="empty", Description="not any more", SecretString="x")
assert api.get_secret_value(SecretId="empty")["SecretString"] == "x"
assert "VersionId" not in api.update_secret(SecretId="empty", Description="again")
assert api.describe_secret(SecretId="empty")["Description"] == "again"
api.tag_resource(SecretId="empty", Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
api.untag_resource(SecretId="empty", TagKeys=["a"])
assert api.describe_secret(SecretId="empty")["Tags"] == [{"Key": "b", "Value": "2"}]

# Listed.
names = lambda **request: [s["Name"] for s in api.list_secrets(**request)["SecretList"]]
assert names() == ["binary", "empty", "long", "prod/db", "twice"]
assert names(SortOrder="desc", MaxResults=2) == ["twice", "prod/db"]
assert names(Filters=[{"Key": "name", "Values": ["prod"]}]) == ["prod/db"]
assert names(Filters=[{"Key": "tag-key", "Values": ["team", "b"]}]) == ["empty", "prod/db"]
assert names(Filters=[{"Key": "name", "Values": ["!e"]}]) == ["binary", "long", "prod/db", "twice"]
pages = api.get_paginator("list_secrets").paginate(PaginationConfig={"PageSize": 2})
assert [s["Name"] for page in pages for s in page["SecretList"]] == names()
refused("InvalidNextTokenException", api.list_secrets, NextToken="nonsense")

# Deleted, kept after all, gone.
doomed = api.delete_secret(SecretId="twice", RecoveryWindowInDays=7)
assert 6.9 < (doomed["DeletionDate"].timestamp() - time.time()) / 86400 < 7.1
for call in (api.get_secret_value, api.delete_secret):
    assert "marked for deletion" in refused("InvalidRequestException", call, SecretId="twice")["Error"]["Message"]
refused("InvalidRequestException", api.put_secret_value, SecretId="twice", SecretString="x")
refused("InvalidRequestException", api.create_secret, Name="twice", SecretString="x")
assert "DeletedDate" in api.describe_secret(SecretId="twice")
assert "twice" not in names() and "twice" in names(IncludePlannedDeletion=True)
api.restore_secret(SecretId="twice")
assert api.get_secret_value(SecretId="twice")["SecretString"] == "same"
before = api.describe_secret(SecretId="twice")["ARN"]
api.delete_secret(SecretId="twice", ForceDeleteWithoutRecovery=True)
refused("ResourceNotFoundException", api.describe_secret, SecretId="twice")
assert api.delete_secret(SecretId="twice", ForceDeleteWithoutRecovery=True)["Name"] == "twice"
api.create_secret(Name="twice", SecretString="new")
refused("ResourceNotFoundException", api.get_secret_value, SecretId=before)
for days in (6, 31):
    refused("InvalidParameterException", api.delete_secret, SecretId="twice", RecoveryWindowInDays=days)
refused("InvalidParameterException", api.delete_secret, SecretId="twice", RecoveryWindowInDays=7, ForceDeleteWithoutRecovery=True)

# What there is not.
error = refused("InvalidRequestException", api.rotate_secret, SecretId="twice")
assert error["Error"]["Message"] == "RotateSecret is not available in this version"
refused("InvalidParameterException", api.create_secret, Name="r", AddReplicaRegions=[{"Region": "eu-west-1"}])
