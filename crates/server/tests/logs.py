# Run by tests/server.rs with boto3, `client`, `refused` and `endpoint` at hand.
logs = client("logs")
now = int(time.time() * 1000)

logs.create_log_group(logGroupName="/g/one", tags={"a": "1"})
logs.create_log_group(logGroupName="/g/two")
refused("ResourceAlreadyExistsException", logs.create_log_group, logGroupName="/g/one")
groups = logs.describe_log_groups(logGroupNamePrefix="/g/", limit=1)
assert [g["logGroupName"] for g in groups["logGroups"]] == ["/g/one"] and groups["nextToken"]
pages = logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix="/g/", PaginationConfig={"PageSize": 1})
assert [g["logGroupName"] for page in pages for g in page["logGroups"]] == ["/g/one", "/g/two"]
assert [g["logGroupName"] for g in logs.describe_log_groups(logGroupNamePattern="tw")["logGroups"]] == ["/g/two"]
group = groups["logGroups"][0]
assert group["arn"] == "arn:aws:logs:us-east-1:123456789012:log-group:/g/one:*" and "retentionInDays" not in group

logs.put_retention_policy(logGroupName="/g/one", retentionInDays=7)
assert logs.describe_log_groups(logGroupNamePrefix="/g/one")["logGroups"][0]["retentionInDays"] == 7
refused("InvalidParameterException", logs.put_retention_policy, logGroupName="/g/one", retentionInDays=8)
logs.delete_retention_policy(logGroupName="/g/one")
arn = group["logGroupArn"]
logs.tag_resource(resourceArn=arn, tags={"b": "2"})
logs.untag_resource(resourceArn=arn, tagKeys=["a"])
assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"b": "2"}

one = dict(logGroupName="/g/one", logStreamName="s/1")
logs.create_log_stream(**one)
refused("ResourceAlreadyExistsException", logs.create_log_stream, **one)
error = refused("ResourceNotFoundException", logs.create_log_stream, logGroupName="absent", logStreamName="s")
assert error["Error"]["Message"] == "The specified log group does not exist."
error = refused("ResourceNotFoundException", logs.get_log_events, logGroupName="/g/one", logStreamName="absent")
assert error["Error"]["Message"] == "The specified log stream does not exist."
error = refused("ResourceNotFoundException", logs.get_log_events, logGroupName="absent", logStreamName="absent")
assert error["Error"]["Message"] == "The specified log group does not exist."
empty = logs.get_log_events(startFromHead=True, **one)
assert empty["events"] == [] and empty["nextForwardToken"].startswith("f/") and empty["nextBackwardToken"].startswith("b/")

# Forward: the token of the end stays, and goes on when the stream does.
event = lambda n: {"timestamp": now + n, "message": f"event {n}\nof two lines"}
logs.put_log_events(logEvents=[event(n) for n in range(10)], **one)
token = empty["nextForwardToken"]
page = logs.get_log_events(startFromHead=True, nextToken=token, limit=4, **one)
assert [e["message"] for e in page["events"]] == [event(n)["message"] for n in range(4)]
seen, token = 4, page["nextForwardToken"]
while True:
    page = logs.get_log_events(startFromHead=True, nextToken=token, limit=4, **one)
    if page["nextForwardToken"] == token: break
    seen, token = seen + len(page["events"]), page["nextForwardToken"]
assert seen == 10 and page["events"] == []
logs.put_log_events(logEvents=[event(10)], **one)
page = logs.get_log_events(startFromHead=True, nextToken=token, **one)
assert [e["timestamp"] for e in page["events"]] == [now + 10]

# Backward: the latest first, each page in order.
page = logs.get_log_events(limit=3, **one)
assert [e["timestamp"] - now for e in page["events"]] == [8, 9, 10]
page = logs.get_log_events(limit=3, nextToken=page["nextBackwardToken"], **one)
assert [e["timestamp"] - now for e in page["events"]] == [5, 6, 7]
again = logs.get_log_events(limit=3, nextToken=page["nextForwardToken"], startFromHead=True, **one)
assert [e["timestamp"] - now for e in again["events"]] == [8, 9, 10]
page = logs.get_log_events(startTime=now + 2, endTime=now + 4, startFromHead=True, **one)
assert [e["timestamp"] - now for e in page["events"]] == [2, 3]
refused("InvalidParameterException", logs.get_log_events, nextToken="x", **one)
page = logs.get_log_events(logGroupIdentifier=arn, logStreamName="s/1", limit=1)
assert page["events"][0]["timestamp"] == now + 10

# Pages end at a mebibyte.
big = dict(logGroupName="/g/one", logStreamName="big")
logs.create_log_stream(**big)
for n in range(3):
    logs.put_log_events(logEvents=[{"timestamp": now, "message": f"{n}" * 60_000}] * 8, **big)
sizes, token = [], None
while True:
    page = logs.get_log_events(startFromHead=True, **big, **({"nextToken": token} if token else {}))
    if page["nextForwardToken"] == token: break
    token = page["nextForwardToken"]
    sizes.append(sum(len(e["message"]) for e in page["events"]))
assert sum(sizes) == 3 * 8 * 60_000 and max(sizes) <= 1_048_576 and len(sizes) == 2, sizes

# Batches that break the rules.
refused("InvalidParameterException", logs.put_log_events, logEvents=[event(2), event(1)], **one)
answer = logs.put_log_events(logEvents=[{"timestamp": now + 3 * 3600_000, "message": "too new"}], **one)
assert answer["rejectedLogEventsInfo"] == {"tooNewLogEventStartIndex": 0}
refused("ResourceNotFoundException", logs.put_log_events, logGroupName="/g/one", logStreamName="absent", logEvents=[event(1)])

# All streams of a group as one log.
two = dict(logGroupName="/g/two")
for name in ["a", "b", "c"]: logs.create_log_stream(logStreamName=name, **two)
for n in range(30):
    text = ("ERROR " if n % 10 == 0 else "") + str(n)
    logs.put_log_events(logStreamName="abc"[n % 3], logEvents=[{"timestamp": now + n, "message": text}], **two)
for size in [1, 7, 100]:
    pages = logs.get_paginator("filter_log_events").paginate(PaginationConfig={"PageSize": size}, **two)
    events = [e for page in pages for e in page["events"]]
    assert [e["timestamp"] - now for e in events] == list(range(30)), size
assert len({e["eventId"] for e in events}) == 30
found = lambda **query: [e["timestamp"] - now for e in logs.filter_log_events(**two, **query)["events"]]
assert found(filterPattern="ERROR") == [0, 10, 20]
assert found(filterPattern="ERROR -20", startTime=now + 5) == [10]
assert found(logStreamNames=["b"], limit=2) == [1, 4]
assert found(logStreamNamePrefix="c", endTime=now + 6) == [2, 5]
assert found(filterPattern="{ $.a = 1 }") == []
assert found(filterPattern="[n = *2*]") == [2, 12, 21, 22, 23, 24, 25, 26, 27, 28, 29] and found(filterPattern="[..., n = 20]") == [20]
refused("InvalidParameterException", logs.filter_log_events, filterPattern="{ $.a == 1 }", **two)
refused("InvalidParameterException", logs.filter_log_events, nextToken="x", **two)
refused("ResourceNotFoundException", logs.filter_log_events, logStreamNames=["absent"], **two)
refused("ResourceNotFoundException", logs.filter_log_events, logGroupName="absent")

streams = logs.describe_log_streams(orderBy="LastEventTime", descending=True, **two)["logStreams"]
assert [s["logStreamName"] for s in streams] == ["c", "b", "a"]
assert streams[0]["firstEventTimestamp"] == now + 2 and streams[0]["lastEventTimestamp"] == now + 29
pages = logs.get_paginator("describe_log_streams").paginate(PaginationConfig={"PageSize": 2}, **two)
assert [s["logStreamName"] for page in pages for s in page["logStreams"]] == ["a", "b", "c"]
refused("InvalidParameterException", logs.describe_log_streams, orderBy="LastEventTime", logStreamNamePrefix="a", **two)

logs.delete_log_stream(logStreamName="a", **two)
refused("ResourceNotFoundException", logs.delete_log_stream, logStreamName="a", **two)
logs.delete_log_group(**two)
refused("ResourceNotFoundException", logs.delete_log_group, **two)
assert len(os.listdir("logs")) == 2, os.listdir("logs")
