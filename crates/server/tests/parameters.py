# Run by tests/server.rs with boto3, `client` and `refused` at hand.
ssm = client("ssm", parameter_validation=False)
arn = lambda name: "arn:aws:ssm:us-east-1:123456789012:parameter/" + name.lstrip("/")


def put(name, value="v", **more):
    return ssm.put_parameter(**{"Name": name, "Value": value, "Type": "String", **more})


# Versions.
made = put("/app/db/host", "one", Description="d", Tags=[{"Key": "team", "Value": "blue"}])
assert (made["Version"], made["Tier"]) == (1, "Standard")
error = refused("ParameterAlreadyExists", put, "/app/db/host")
assert "set the overwrite option in the request to true" in error["Error"]["Message"]
assert put("/app/db/host", "two", Overwrite=True)["Version"] == 2
got = ssm.get_parameter(Name="/app/db/host")["Parameter"]
assert (got["Value"], got["Version"], got["Type"], got["ARN"]) == ("two", 2, "String", arn("/app/db/host"))
assert got["DataType"] == "text" and abs(got["LastModifiedDate"].timestamp() - time.time()) < 60
old = ssm.get_parameter(Name="/app/db/host:1")["Parameter"]
assert (old["Value"], old["Selector"], old["Name"]) == ("one", ":1", "/app/db/host")
assert ssm.get_parameter(Name=arn("/app/db/host"))["Parameter"]["Value"] == "two"
refused("ParameterVersionNotFound", ssm.get_parameter, Name="/app/db/host:3")
refused("ParameterNotFound", ssm.get_parameter, Name="/app/nobody")
refused("ParameterNotFound", ssm.get_parameter, Name=arn("/app/db/host").replace("1234", "9999"))
assert "not available" in refused("ValidationException", ssm.get_parameter, Name="/app/db/host:live")["Error"]["Message"]

# Kinds, sizes, rules.
secret = put("/app/db/password", "hunter2", Type="SecureString", KeyId="alias/mine")
hidden = ssm.get_parameter(Name="/app/db/password")["Parameter"]["Value"]
assert hidden and "hunter2" not in hidden
assert ssm.get_parameter(Name="/app/db/password", WithDecryption=True)["Parameter"]["Value"] == "hunter2"
put("/app/zones", "a,b", Type="StringList")
refused("HierarchyTypeMismatchException", put, "/app/zones", "c", Overwrite=True)
ssm.put_parameter(Name="/app/zones", Value="c", Overwrite=True)
assert ssm.get_parameter(Name="/app/zones")["Parameter"]["Type"] == "StringList"
put("large", "x" * 4096)
refused("ValidationException", put, "larger", "x" * 4097)
assert put("larger", "x" * 4097, Tier="Intelligent-Tiering")["Tier"] == "Advanced"
assert put("largest", "x" * 8192, Tier="Advanced")["Tier"] == "Advanced"
refused("ValidationException", put, "too-large", "x" * 8193, Tier="Advanced")
refused("ValidationException", put, "empty", "")
refused("ValidationException", ssm.put_parameter, Name="kindless", Value="v")
refused("ValidationException", put, "kindless", Type="Number")
refused("ValidationException", put, "keyed", KeyId="alias/x")
refused("ParameterPatternMismatchException", put, "digits", "12a", AllowedPattern=r"\d+")
refused("InvalidAllowedPatternException", put, "digits", "12", AllowedPattern="(")
put("digits", "12", AllowedPattern=r"\d+")
assert "Policies" in refused("ValidationException", put, "p", Policies='[{"Type":"Expiration"}]')["Error"]["Message"]
for name, code in {
    "/aws/x": "AccessDeniedException", "ssm-x": "ValidationException", "a/b": "ValidationException",
    "/a b": "ValidationException", "/1" * 16: "HierarchyLevelLimitExceededException",
}.items():
    refused(code, put, name)
put("/1" * 15)

# Several at once.
many = ssm.get_parameters(Names=["/app/db/host:1", "nobody", "/app/db/password", "digits"], WithDecryption=True)
assert [(p["Name"], p["Value"]) for p in many["Parameters"]] == [
    ("/app/db/host", "one"), ("/app/db/password", "hunter2"), ("digits", "12")]
assert many["InvalidParameters"] == ["nobody"]
refused("ValidationException", ssm.get_parameters, Names=["digits"] * 2)
error = refused("ValidationException", ssm.get_parameters, Names=[f"n{n}" for n in range(11)])
assert "at 'names' failed to satisfy constraint: Member must have length less than or equal to 10" in error["Error"]["Message"]

# By path.
names = lambda page: [p["Name"] for p in page["Parameters"]]
assert names(ssm.get_parameters_by_path(Path="/app")) == ["/app/zones"]
assert names(ssm.get_parameters_by_path(Path="/app/", Recursive=True)) == ["/app/db/host", "/app/db/password", "/app/zones"]
assert names(ssm.get_parameters_by_path(Path="/app/db")) == ["/app/db/host", "/app/db/password"]
assert names(ssm.get_parameters_by_path(Path="/ap", Recursive=True)) == []
secure = [{"Key": "Type", "Option": "Equals", "Values": ["SecureString"]}]
found = ssm.get_parameters_by_path(Path="/app", Recursive=True, ParameterFilters=secure, WithDecryption=True)
assert [p["Value"] for p in found["Parameters"]] == ["hunter2"]
pages = ssm.get_paginator("get_parameters_by_path").paginate(Path="/app", Recursive=True, PaginationConfig={"PageSize": 1})
assert [name for page in pages for name in names(page)] == ["/app/db/host", "/app/db/password", "/app/zones"]
refused("ValidationException", ssm.get_parameters_by_path, Path="app")
refused("InvalidNextToken", ssm.get_parameters_by_path, Path="/app", NextToken="nonsense")

# Described.
described = ssm.describe_parameters(ParameterFilters=[{"Key": "Path", "Option": "Recursive", "Values": ["/app"]}])
assert names(described) == ["/app/db/host", "/app/db/password", "/app/zones"]
host, password, _ = described["Parameters"]
assert (host["Description"], host["Version"], host["Tier"], host["Policies"]) == ("d", 2, "Standard", [])
assert password["KeyId"] == "alias/mine" and "Value" not in password
assert host["LastModifiedUser"] == "arn:aws:iam::123456789012:user/alice"
assert names(ssm.describe_parameters(Filters=[{"Key": "Name", "Values": ["dig"]}])) == ["digits"]
assert names(ssm.describe_parameters(ParameterFilters=[{"Key": "tag:team", "Values": ["blue"]}])) == ["/app/db/host"]
pages = ssm.get_paginator("describe_parameters").paginate(PaginationConfig={"PageSize": 3})
everything = [name for page in pages for name in names(page)]
assert everything == sorted(everything) and len(everything) == 8, everything
refused("InvalidFilterKey", ssm.describe_parameters, ParameterFilters=[{"Key": "Label", "Values": ["x"]}])

# Tags.
tagged = dict(ResourceType="Parameter", ResourceId="/app/db/host")
ssm.add_tags_to_resource(Tags=[{"Key": "a", "Value": "1"}], **tagged)
ssm.remove_tags_from_resource(TagKeys=["team"], **tagged)
assert ssm.list_tags_for_resource(**tagged)["TagList"] == [{"Key": "a", "Value": "1"}]
refused("InvalidResourceId", ssm.list_tags_for_resource, ResourceType="Parameter", ResourceId="nobody")
refused("ValidationException", put, "/app/db/host", Overwrite=True, Tags=[{"Key": "b", "Value": "2"}])

# Deleted.
ssm.delete_parameter(Name="digits")
refused("ParameterNotFound", ssm.delete_parameter, Name="digits")
gone = ssm.delete_parameters(Names=["/app/zones", "digits"])
assert (gone["DeletedParameters"], gone["InvalidParameters"]) == (["/app/zones"], ["digits"])
assert put("/app/zones")["Version"] == 1

# What there is not.
error = refused("UnsupportedOperationException", ssm.label_parameter_version, Name="large", Labels=["x"])
assert error["Error"]["Message"] == "LabelParameterVersion is not available in this version"
