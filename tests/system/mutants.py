"""Requests made by a machine from CodeBuild's model: every change of one member of a valid request, and random ones.

Pure: what a request is and whether the model forbids it. Sending them and judging the answers is for `test_mutants`.
"""

import copy
import json
import random
import re
from dataclasses import dataclass

from botocore.model import ServiceModel

from local import REPOSITORY

MODEL = ServiceModel(json.loads((REPOSITORY / "crates/api/models/codebuild.json").read_text()), "codebuild")

MISSING = object()

# Longer than any limit of the model, and far from the limit of a request.
LONG = 3000
# JSON nested deeper than any shape, and deeper than a parser should follow.
DEEP = 200
ABYSS = 100_000

WRONG_TYPES = {
    "a text": "text",
    "a number": 7,
    "a fraction": 1.5,
    "a boolean": True,
    "a list": ["text"],
    "an object": {"member": "text"},
}

FITTING = {
    "string": {"a text"},
    "integer": {"a number", "a fraction"},
    "long": {"a number", "a fraction"},
    "boolean": {"a boolean"},
    "list": {"a list"},
    "structure": {"an object"},
}

TEXTS = {
    "an empty text": "",
    "a space": " ",
    "unicode": "üß漢字😀\u202e",
    "a combining text": "e\u0301\u0327",
    "U+0000": "a\0b",
    "a control character": "a\x1b[31m\x7f",
    "lines": "a\nb\r\nc",
    "half a surrogate pair": "\ud800",
    "a path": "../../../../etc/passwd",
    "an ARN": "arn:aws:codebuild:us-east-1:123456789012:project/other",
    "an ARN of another region": "arn:aws:codebuild:eu-west-1:123456789012:project/changed",
    "an ARN of another account": "arn:aws:codebuild:us-east-1:210987654321:project/changed",
    "an ARN of another partition": "arn:aws-cn:codebuild:cn-north-1:999999999999:build/a:b",
    "a broken ARN": "arn:aws:codebuild:::",
    "SQL": "x'); DROP TABLE projects; --",
    "a variable": "${jndi:ldap://x}$(id)`id`",
    "a long text": "x" * LONG,
    "a very long text": "ä" * 40_000,
}

NUMBERS = {
    "0": 0,
    "-1": -1,
    "1": 1,
    "the least of 32 bits": -(2**31),
    "the most of 32 bits": 2**31 - 1,
    "more than 32 bits": 2**31,
    "more than 64 bits": 2**64,
    "a huge number": 10**300,
    "a tiny number": 1e-300,
    "infinity": float("inf"),
    "no number": float("nan"),
}

# Bodies that are no object of JSON, whatever the operation.
NO_OBJECTS = {
    "null": b"null",
    "a list": b"[]",
    "a text": b'"text"',
    "a number": b"7",
    "half an object": b'{"name"',
    "an object and more": b"{} {}",
    "no UTF-8": b'{"name": "\xff\xfe"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "an abyss of lists": b"[" * ABYSS,
    "an abyss of objects": b'{"a":' * ABYSS,
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "a comment": b"/* {} */",
}


@dataclass(frozen=True)
class Request:
    """A call; `verdict` is what must become of it: `refuse`, `accept`, or None where the model does not say."""

    operation: str
    what: str
    body: bytes
    verdict: str | None = None

    def __str__(self):
        return f"{self.operation}, {self.what}: {self.body[:1500].decode(errors='replace')}"


def single_changes(operation, full):
    """The requests that differ from a valid one in one member, each once."""
    seen = set()
    for request in _single_changes(operation, full):
        if request.body not in seen:
            seen.add(request.body)
            yield request


def _single_changes(operation, full):
    shape = MODEL.operation_model(operation).input_shape
    for what, body in NO_OBJECTS.items():
        yield Request(operation, f"the body is {what}", body, "refuse")
    yield Request(operation, "as it is", _bytes(full), "accept")
    yield Request(operation, "an unknown member", _bytes(full | {"unheardOf": {"a": [None]}}), "accept")
    for path, member, required in _members(shape):
        base = _with(full, path, shape)
        dotted = ".".join(map(str, path))
        for what, value, forbidden in changes(member, required):
            changed = _bytes(_changed(base, path, value))
            yield Request(operation, f"{dotted} is {what}", changed, "refuse" if forbidden else None)
        if member.type_name == "structure" and _is_there(full, path):
            strange = _changed(full, (*path, "unheardOf"), [1, {"a": None}])
            yield Request(operation, f"{dotted} has an unknown member", _bytes(strange), "accept")


def changes(shape, required):
    """`(what, value, whether the model forbids it)` of everything a member may be changed to."""
    yield "missing", MISSING, required
    yield "null", None, required
    fitting = FITTING[shape.type_name]
    yield from ((what, value, True) for what, value in WRONG_TYPES.items() if what not in fitting)
    yield "nested deep", _nested(DEEP), shape.type_name != "list" or None
    match shape.type_name:
        case "string":
            yield from _texts(shape)
        case "integer" | "long":
            yield from _numbers(shape)
        case "boolean":
            yield from (("true", True, False), ("false", False, False))
        case "list":
            yield from _lists(shape)
        case "structure":
            yield "empty", {}, bool(shape.required_members)


def _texts(shape):
    least, most = shape.metadata.get("min", 0), shape.metadata.get("max")
    lengths = {least - 1, least} | ({most, most + 1} if most is not None else set())
    texts = TEXTS | {f"{length} characters long": "x" * length for length in sorted(lengths) if length >= 0}
    if shape.enum:
        texts |= {one: one for one in shape.enum} | {"of another case": shape.enum[0].lower()}
    yield from ((what, text, _is_forbidden_text(shape, text)) for what, text in texts.items())


def _is_forbidden_text(shape, text):
    """Whether the model forbids a text; where it would take Unicode's tables to tell, it is not said to."""
    least, most = shape.metadata.get("min", 0), shape.metadata.get("max")
    if shape.enum:
        return text not in shape.enum
    pattern = shape.metadata.get("pattern")
    if pattern and "\\p" not in pattern and not re.fullmatch(pattern, text):
        return True
    return len(text) < least or (most is not None and len(text) > most)


def _numbers(shape):
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    bounds = [bound for bound in (least, most) if bound is not None]
    near = {f"{bound + off}": bound + off for bound in bounds for off in (-1, 0, 1)}
    bits = 31 if shape.type_name == "integer" else 63
    for what, number in (NUMBERS | near).items():
        outside = not -(2**bits) <= number < 2**bits
        beyond = (least is not None and number < least) or (most is not None and number > most)
        yield what, number, outside or beyond


def _lists(shape):
    least, most = shape.metadata.get("min", 0), shape.metadata.get("max")
    item = sample(shape.member)
    yield "empty", [], least > 0
    yield "of null", [None], None
    yield "of one", [item], False or None
    yield "of twins", [item, item], None
    yield "long", [item] * 1000, most is not None and most < 1000
    if most is not None:
        yield "full", [item] * most, None
        yield "too full", [item] * (most + 1), True


def _nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def sample(shape, optional=True):
    """A value that fits the model."""
    match shape.type_name:
        case "structure":
            names = shape.members if optional else shape.required_members
            return {name: sample(shape.members[name], optional) for name in names}
        case "list":
            return [sample(shape.member, optional)]
        case "string":
            return shape.enum[0] if shape.enum else "sample".ljust(shape.metadata.get("min", 0), "x")
        case "boolean":
            return True
        case _:
            return max(1, shape.metadata.get("min", 1))


def _members(shape, above=()):
    """`(path, shape, whether it is required)` of everything below a shape; a list is followed into its first item."""
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            yield (*above, name), member, name in shape.required_members
            yield from _members(member, (*above, name))
    elif shape.type_name == "list" and shape.member.type_name in ("structure", "string"):
        yield (*above, 0), shape.member, False
        yield from _members(shape.member, (*above, 0))


def _with(full, path, root):
    """The request with a place for what is at `path`: what is missing on the way there is made as small as can be."""
    grown = copy.deepcopy(full)
    place, shape = grown, root
    for name in path[:-1]:
        shape = shape.member if name == 0 else shape.members[name]
        if name == 0 and not place:
            place.append(sample(shape, optional=False))
        elif name != 0 and name not in place:
            place[name] = sample(shape, optional=False)
        place = place[name]
    return grown


def _is_there(request, path):
    for name in path:
        if (name == 0 and not request) or (name != 0 and name not in request):
            return False
        request = request[name]
    return True


def _changed(base, path, value):
    """The request with a value at `path`, or with nothing there."""
    changed = copy.deepcopy(base)
    *way, last = path
    place = changed
    for name in way:
        place = place[name]
    if last == 0:
        place[:1] = [] if value is MISSING else [value]
    elif value is MISSING:
        place.pop(last, None)
    else:
        place[last] = value
    return changed


def known(shape, value):
    """What of a value the model knows: no unknown members, no nulls, which are as good as nothing."""
    match shape.type_name:
        case "structure" if isinstance(value, dict):
            members = {name: value[name] for name in value.keys() & shape.members.keys()}
            return {name: known(shape.members[name], one) for name, one in members.items() if one is not None}
        case "list" if isinstance(value, list):
            return [known(shape.member, item) for item in value if item is not None]
        case _:
            return value


def _bytes(request):
    try:
        return json.dumps(request, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(request).encode()


def random_request(seed, number, valid):
    """The request of this number: the same for the same seed. `valid` holds a valid request for each operation."""
    rng = random.Random(f"{seed}:{number}")
    operation = rng.choice(sorted(valid))
    shape = MODEL.operation_model(operation).input_shape
    match rng.random():
        case share if share < 0.5:
            request = valid[operation]
            for _ in range(rng.randint(1, 4)):
                request = _random_change(rng, shape, request)
        case share if share < 0.9:
            request = _grown(rng, shape) | {name: valid[operation][name] for name in shape.required_members}
        case _:
            return Request(operation, f"random {seed}:{number}", _damaged(rng, _bytes(valid[operation])))
    return Request(operation, f"random {seed}:{number}", _bytes(request))


def _random_change(rng, root, request):
    members = list(_members(root))
    if not members:
        return request | {"unheardOf": rng.random()}
    path, shape, _ = rng.choice(members)
    _, value, _ = rng.choice(list(changes(shape, False)))
    try:
        return _changed(_with(request, path, root), path, value)
    except (TypeError, KeyError, IndexError, AttributeError):
        # An earlier change has put something else where the way leads through.
        return request


def _grown(rng, shape):
    """A value of a shape, with some of its members, mostly fitting."""
    match shape.type_name:
        case "structure":
            chosen = {name: member for name, member in shape.members.items() if rng.random() < 0.35}
            needed = {name: shape.members[name] for name in shape.required_members if rng.random() < 0.97}
            return {name: _grown(rng, member) for name, member in (chosen | needed).items()}
        case "list":
            return [_grown(rng, shape.member) for _ in range(rng.choice((0, 1, 1, 2, 3, 13)))]
        case "string" if shape.enum and rng.random() < 0.95:
            return rng.choice(shape.enum)
        case _ if rng.random() < 0.8:
            return sample(shape)
    _, value, _ = rng.choice(list(changes(shape, False)))
    return None if value is MISSING else value


def _damaged(rng, body):
    """Bytes that were a request: some changed, left out, doubled."""
    damaged = bytearray(body)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(damaged) + 1)
        match rng.randrange(4):
            case 0:
                damaged[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del damaged[at : at + rng.randint(1, 9)]
            case 2:
                damaged[at:at] = damaged[at : at + rng.randint(1, 9)]
            case _:
                damaged[at:at] = rng.choice((b"{", b"}", b"[", b",", b'"', b"\\", b"null", b"1e999", b"\0", b"\xc0\x80"))
    return bytes(damaged)
