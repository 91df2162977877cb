"""Every request that is one member away from a valid one, and random requests: none is a fault of the server's,
every answer is one that botocore parses by AWS's model, and what is refused has changed nothing.

A random request that fails is sent again by its seed and number: `--seed S --first N --random-requests 1`.
"""

import json

import pytest

import mutants
from world import OPERATIONS

MOST_SHOWN = 20


def faults_of(world, requests):
    """Sends the requests; says of which the answer, or what it left behind, is wrong."""
    found, sent, before = [], 0, None
    for request in requests:
        watched = changes_something(request.operation)
        if watched and before is None:
            before = world.state(request.operation)
        answer = world.wire.send(request.operation, request.body)
        sent += 1
        wrong = verdict(request, answer)
        if answer.accepted:
            world.mend(request.operation, answer.parsed)
            before = None
        elif watched and (after := world.state(request.operation)) != before:
            wrong.append(f"refused, and yet {before!r:.500} became {after!r:.500}")
            before = after
        if wrong:
            found.append(f"{'; '.join(wrong)}\n  {request}\n  {answer}")
        if len(found) == MOST_SHOWN:
            break
    return found, sent


def verdict(request, answer):
    """What is wrong with an answer, whatever the operation does."""
    wrong = list(answer.faults)
    if answer.status >= 500:
        wrong.append("a fault of the server's")
    if request.verdict == "refuse" and answer.accepted:
        wrong.append("the model forbids it, and it was accepted")
    if request.verdict == "accept" and not answer.accepted:
        wrong.append("it is valid, and was refused")
    if answer.accepted and request.operation in ("CreateProject", "UpdateProject"):
        wrong += unechoed(json.loads(request.body), answer.parsed["project"])
    return wrong


def unechoed(sent, shown):
    """Which members of a project do not come back as they were sent. AP-053, AP-054, AP-061."""
    shape = mutants.MODEL.operation_model("CreateProject").input_shape
    shown = shown | {"badgeEnabled": shown["badge"]["badgeEnabled"]}
    wanted = mutants.known(shape, sent)
    if wanted.get("concurrentBuildLimit") == -1:
        del wanted["concurrentBuildLimit"]  # AP-041: that is how the limit is taken away
    if not wanted.get("serviceRole", "").startswith("arn:"):
        wanted.pop("serviceRole", None)  # a bare name comes back as an ARN
    return [f"{path} was sent as {was!r:.200}, shown as {now!r:.200}" for path, was, now in differences(wanted, shown)]


def differences(sent, shown, path=""):
    """`(path, sent, shown)` of what was sent and is shown otherwise; that more is shown is no difference."""
    if isinstance(sent, dict) and isinstance(shown, dict):
        for name, value in sent.items():
            yield from differences(value, shown.get(name), f"{path}.{name}")
    elif isinstance(sent, list) and isinstance(shown, list) and len(sent) == len(shown):
        for index, (one, other) in enumerate(zip(sent, shown)):
            yield from differences(one, other, f"{path}[{index}]")
    elif sent != shown and not is_nothing(path, sent, shown):
        yield path, sent, shown


def is_nothing(path, sent, shown):
    """Whether what was sent means that there is to be none. SA-062: an artifact's name has a default then."""
    return sent == "" and path.endswith(".name") or sent in ("", {}) and shown is None and path in TAKEN_AWAY


# AP-061
TAKEN_AWAY = (".sourceVersion", ".vpcConfig", ".buildBatchConfig")


def changes_something(operation):
    return not operation.startswith(("BatchGet", "Get", "List"))


# AP-001..006, AP-009, AP-010, AP-020..033, AP-053, AP-054
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_single_change_of_a_valid_request_is_a_fault_of_ours(world, operation, record_property):
    before = world.projects()
    found, sent = faults_of(world, mutants.single_changes(operation, world.valid()[operation]))
    record_property("requests", sent)
    assert world.projects() == before
    assert not found, "\n".join([f"{len(found)} of {sent} requests", *found])


# AP-003, AP-004
def test_no_random_request_is_a_fault_of_ours(world, request, record_property):
    option = request.config.getoption
    seed, first, count = option("--seed"), option("--first"), option("--random-requests")
    found, sent = [], 0
    for number in range(first, first + count):
        wrong, _ = faults_of(world, [mutants.random_request(seed, number, world.valid())])
        found, sent = found + wrong, sent + 1
        if len(found) >= MOST_SHOWN:
            break
    record_property("requests", sent)
    assert not found, "\n".join([f"{len(found)} of {sent} requests", *found])
