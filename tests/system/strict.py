"""Answers held against AWS's own model: whatever a foreign client would drop, guess or stumble over is a fault here.

botocore forgives: it ignores members it does not know and turns text into times. So the bodies are looked at before it
parses them. Here is what a body may be; which client is watched is for `served`, which answers are made for the tests.
"""

import base64
import json

# What any operation of AWS may answer besides the errors that its model declares (AP-004).
COMMON_ERRORS = {
    "AccessDeniedException",
    "ExpiredTokenException",
    "IncompleteSignatureException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "RequestEntityTooLargeException",
    "SerializationException",
    "ThrottlingException",
    "UnknownOperationException",
    "UnrecognizedClientException",
    "ValidationException",
}

# Faults of the server's side. They are answers, too, but none that a request may cause.
SERVER_FAULTS = {"InternalFailure", "ServiceUnavailableException"}

BITS = {"integer": 31, "long": 63}


def watch(client):
    """Has every answer that this client gets checked; a fault is an AssertionError out of the call."""
    if client.meta.service_model.resolved_protocol == "json":
        service = client.meta.service_model.service_id.hyphenize()
        client.meta.events.register(f"before-parse.{service}", _check_answer)
    return client


def _check_answer(operation_model, response_dict, **_):
    if operation_model.has_event_stream_output and response_dict["status_code"] == 200:
        return
    found = faults(operation_model, response_dict["status_code"], response_dict["headers"], response_dict["body"])
    assert not found, f"{operation_model.name}: {found}; the answer: {response_dict['body'][:2000]!r}"


def faults(operation, status, headers, body):
    """What is wrong with an answer of an awsJson operation, in words; empty where nothing is."""
    headers = {name.lower(): value for name, value in headers.items()}
    found = []
    if not headers.get("x-amzn-requestid"):
        found.append("no x-amzn-RequestId")
    if status == 200:
        return found + _output_faults(operation.output_shape, headers, body)
    return found + _error_faults(operation, status, body)


def _output_faults(shape, headers, body):
    if shape is None or not shape.members:
        return [] if body in (b"", b"{}") else [f"an output where the model has none: {body[:200]!r}"]
    if headers.get("content-type") != "application/x-amz-json-1.1":
        return [f"content type {headers.get('content-type')}"]
    try:
        value = json.loads(body, parse_constant=_no_constant, object_pairs_hook=_no_twins)
    except ValueError as error:
        return [f"no JSON: {error}"]
    return list(_value_faults(shape, value, ""))


def _error_faults(operation, status, body):
    try:
        answer = json.loads(body)
        code, message = answer["__type"], answer["message"]
    except (ValueError, KeyError, TypeError):
        return [f"an error of another form: {body[:200]!r}"]
    allowed = {shape.name for shape in operation.error_shapes} | COMMON_ERRORS
    found = []
    if not (code in allowed and 400 <= status < 500) and not (code in SERVER_FAULTS and status >= 500):
        found.append(f"error {code} with status {status}, which the model does not declare")
    if not (isinstance(message, str) and message) and code != "UnknownOperationException":
        found.append("an error without a message")
    return found


def _no_constant(name):
    raise ValueError(f"{name} is not JSON")


def _no_twins(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError(f"a member twice: {[name for name, _ in pairs]}")
    return members


def _value_faults(shape, value, path):
    """AP-002: absent values are omitted, never null; times are seconds as a number."""
    if value is None:
        yield f"{path} is null"
        return
    match shape.type_name:
        case "structure" if isinstance(value, dict):
            yield from (f"{path}.{name} is not in the model" for name in value.keys() - shape.members.keys())
            yield from (f"{path}.{name} is required" for name in set(shape.required_members) - value.keys())
            for name in value.keys() & shape.members.keys():
                yield from _value_faults(shape.members[name], value[name], f"{path}.{name}")
        case "list" if isinstance(value, list):
            for index, item in enumerate(value):
                yield from _value_faults(shape.member, item, f"{path}[{index}]")
        case "map" if isinstance(value, dict):
            for key, item in value.items():
                yield from _value_faults(shape.value, item, f"{path}.{key}")
        case "string" if isinstance(value, str):
            if shape.enum and value not in shape.enum:
                yield f"{path}: {value!r} is none of {shape.enum}"
        case "integer" | "long" as name if type(value) is int:
            if not -(2 ** BITS[name]) <= value < 2 ** BITS[name]:
                yield f"{path}: {value} does not fit a {name}"
        case "boolean" if isinstance(value, bool):
            pass
        case "timestamp" | "float" | "double" if type(value) in (int, float):
            pass
        case "blob" if isinstance(value, str):
            try:
                base64.b64decode(value, validate=True)
            except ValueError:
                yield f"{path} is not base64"
        case name:
            yield f"{path}: {type(value).__name__} {str(value)[:80]!r} is no {name}"
