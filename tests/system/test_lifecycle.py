"""A build's life on a real host: stops at random moments, tries that follow by themselves, the queue's reasons, `buildyard why`,
and agents that are killed while they wait.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import time

import botocore.exceptions
import pytest

from host import children, processes, wait_until
from local import BINARY, spec
from served import Codebuild, contexts, outcome

STOPS = 24
SEED = int(os.environ.get("BUILDYARD_TEST_SEED", random.SystemRandom().randrange(10**6)))


def why(server, build_id, **more):
    command = [str(BINARY), "why", build_id, "--data", str(server.data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **more)


# LC-044
def test_a_stop_at_any_moment_ends_the_build_within_ten_seconds_and_leaves_nothing(codebuild, server, name):
    commands = ["trap '' TERM; echo up; sleep 0.3", "sleep 0.3"]
    codebuild.create_project(name, json.dumps(spec(install=["sleep 0.2"], build=commands)))
    moments, ended, took = random.Random(SEED), [], []
    for _ in range(STOPS):
        build_id = codebuild.start(name)["id"]
        time.sleep(moments.uniform(0, 1.2))
        begun = time.monotonic()
        answered = codebuild.api.stop_build(id=build_id)["build"]
        build = codebuild.wait(build_id)
        took.append(time.monotonic() - begun)
        assert build["buildStatus"] in ("STOPPED", "SUCCEEDED"), (SEED, build["phases"])
        if answered["buildComplete"]:
            assert build == answered
        phases = build["phases"]
        assert all(one["endTime"] == two["startTime"] for one, two in zip(phases, phases[1:]))
        assert phases[-1]["startTime"] == build["endTime"]
        ended.append(build["buildStatus"])
    assert "STOPPED" in ended, (SEED, ended)
    # One of them may be the host's that was held up.
    assert sorted(took)[-2] <= 10, (SEED, took)
    wait_until(lambda: not children(server.data / "builds"), "the folders of the builds gone")


# LC-060, LC-061
def test_timeouts_have_bounds_and_defaults(codebuild, name):
    project = codebuild.create_project(name, json.dumps(spec(build=["true"])))
    assert (project["timeoutInMinutes"], project["queuedTimeoutInMinutes"]) == (60, 480)
    for key, minutes in (
        ("timeoutInMinutesOverride", 4),
        ("timeoutInMinutesOverride", 2161),
        ("queuedTimeoutInMinutesOverride", 4),
        ("queuedTimeoutInMinutesOverride", 481),
    ):
        with pytest.raises((botocore.exceptions.ClientError, botocore.exceptions.ParamValidationError)):
            codebuild.start(name, **{key: minutes})


def tries(codebuild, build_id):
    """The builds from this one on, each the next try of the one before."""
    builds = [codebuild.wait(build_id)]
    while following := builds[-1]["autoRetryConfig"].get("nextAutoRetry"):
        builds.append(codebuild.wait(following))
    return builds


# LC-071, LC-072
def test_a_failed_build_is_tried_again_through_kills_of_the_server(make_server):
    server = make_server()
    codebuild = Codebuild(server)
    codebuild.create_project("stubborn", json.dumps(spec(build=["sleep 0.1; exit 3"])), autoRetryLimit=2)
    moments = random.Random(SEED)
    first = []
    for _ in range(8):
        first.append(codebuild.start("stubborn")["id"])
        time.sleep(moments.uniform(0, 0.6))
        server.kill()
        server.start()
    for build_id in first:
        builds = tries(codebuild, build_id)
        assert [build["autoRetryConfig"]["autoRetryNumber"] for build in builds] == [0, 1, 2], SEED
        assert [build["autoRetryConfig"].get("previousAutoRetry") for build in builds[1:]] == [
            build["arn"] for build in builds[:-1]
        ]
    listed = codebuild.api.list_builds_for_project(projectName="stubborn")["ids"]
    assert len(listed) == 3 * len(first), SEED


# BS-082, BS-083, BS-084
def test_a_phase_that_says_retry_is_tried_again_as_another_build(codebuild, name):
    build = {"commands": ["echo no route to host; exit 7"], "on-failure": "RETRY-1"}
    codebuild.create_project(name, json.dumps(spec(build=build)))
    builds = tries(codebuild, codebuild.start(name)["id"])
    assert [build["buildStatus"] for build in builds] == ["FAILED", "FAILED"]
    assert builds[1]["autoRetryConfig"]["autoRetryLimit"] == 1


# LC-025, LC-057, LC-066, LC-068
def test_a_build_that_waits_says_why_in_its_document_and_to_buildyard_why(make_server):
    server = make_server()
    codebuild = Codebuild(server)
    codebuild.create_project("narrow", json.dumps(spec(build=["echo begun; sleep 1000"])), concurrentBuildLimit=1)
    first, second = (codebuild.start("narrow")["id"] for _ in range(2))
    codebuild.reached(first)
    wait_until(lambda: "QUEUED" in contexts(codebuild.build(second)), "it says why it waits")
    code, message = contexts(codebuild.build(second))["QUEUED"]
    assert code == "QUEUED: PROJECT_LIMIT" and first in message, message
    told = why(server, second).stdout
    assert "It waits because 1 of 1 builds of project narrow are running" in told and first in told, told
    assert "raise concurrentBuildLimit of project narrow" in told
    wait_until(lambda: "  begun" in why(server, first).stdout, "the log of the running build")
    assert f"{first} has been in BUILD for " in why(server, first).stdout
    codebuild.api.stop_build(id=first)
    codebuild.reached(second)
    assert "QUEUED" not in contexts(codebuild.build(second))
    codebuild.api.stop_build(id=second)
    assert codebuild.wait(second)["buildStatus"] == "STOPPED"


def test_buildyard_why_tells_what_a_build_ended_of(codebuild, server, name):
    codebuild.create_project(name, json.dumps(spec(build=["echo 'no rule to make'; exit 2"])))
    build = codebuild.run(name)
    told = why(server, build["arn"], env=server.environment()).stdout
    assert f"{build['id']} is FAILED" in told
    assert "BUILD is FAILED: COMMAND_EXECUTION_ERROR: Error while executing command: echo" in told
    assert "  no rule to make" in told
    unknown = why(server, f"{name}:00000000-0000-4000-8000-000000000000")
    assert unknown.returncode == 1 and "there is no build" in unknown.stderr


def test_agents_killed_while_they_wait_leave_nothing_and_cost_no_build(make_server):
    server = make_server("--concurrent-builds", "2")
    traces = server.traces()
    codebuild = Codebuild(server)
    codebuild.create_project("fine", json.dumps(spec(build=["true"])))

    def idle():
        inherited = processes(f"SYSTEM_TEST={server.data}")
        return [pid for pid, line in inherited.items() if "--wait" in line]

    def kill_idle():
        for pid in idle():
            # Without their server they leave by themselves.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    wait_until(lambda: len(idle()) >= 2, "agents that wait")
    kill_idle()
    status, phases = outcome(codebuild.run("fine"))
    assert status == "SUCCEEDED", phases
    # Some are noticed at the next start only.
    wait_until(lambda: len(idle()) >= 2, "agents that wait")
    server.kill()
    kill_idle()
    server.start()
    assert outcome(codebuild.run("fine"))[0] == "SUCCEEDED"
    assert server.stop() == 0
    traces.gone()
    wait_until(lambda: os.listdir(server.data / "builds") == [], "nothing is left of agents that waited")
