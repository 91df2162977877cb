"""`buildyard serve` as its clients have it: one server, its AWS clients, and builds that are waited for."""

import contextlib
import itertools
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import time
from pathlib import Path

import boto3
from botocore.config import Config

import strict
from host import Traces, processes, wait_until
from local import BINARY

REGION = "us-east-1"
ACCOUNT = "123456789012"
KEY_ID = "AKIDSYSTEMTESTS00001"
SECRET = "system/tests+secret0000000000000000000000"
IMAGE = "aws/codebuild/standard:7.0"

# A connection on which nothing was sent for so long is not used again.
IDLE_SECONDS = 5

# One after another from anywhere below the kernel's own, so that two runs of the tests seldom ask for the same.
PORTS = (10_000 + number % 20_000 for number in itertools.count(random.SystemRandom().randrange(20_000)))

ENVIRONMENT = {"type": "LINUX_CONTAINER", "image": IMAGE, "computeType": "BUILD_GENERAL1_SMALL"}


def free_port():
    """None of those that anybody gets who asks for any: it is free still when a server that was killed is started again."""
    for port in PORTS:
        with socket.socket() as probe:
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


class Server:
    """A server on a port and a data folder of its own; both stay the same when it is started again."""

    def __init__(self, data, *flags):
        self.data = Path(data)
        self.port = free_port()
        self.flags = list(flags)
        # What the server is started by.
        self.wrap = []
        # Of the server's environment, beside this process's own.
        self.variables = {}
        self.process = None
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.log = self.data.parent / f"{self.data.name}.server.log"

    def start(self):
        """Starts it and waits until it answers requests; returns the seconds that took."""
        keys = {"BUILDYARD_ACCESS_KEY_ID": KEY_ID, "BUILDYARD_SECRET_ACCESS_KEY": SECRET}
        environment = os.environ | keys | {"SYSTEM_TEST": str(self.data)} | self.variables
        listen = f"127.0.0.1:{self.port}"
        command = [*self.wrap, str(BINARY), "serve", "--listen", listen, "--data", str(self.data), *self.flags]
        begun = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._answers, f"the server on {listen}; {self.log}", every=0.002)
        return time.monotonic() - begun

    def _answers(self):
        assert self.process.poll() is None, f"the server ended:\n{self.log.read_text(errors='replace')[-4000:]}"
        try:
            with socket.create_connection(("127.0.0.1", self.port), 30) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return connection.recv(1) != b""
        except OSError:
            return False

    def kill(self):
        """`kill -9`: no chance to tidy up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """A polite end; returns the exit code. Builds may go on, but nothing else that it started."""
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(timeout=60)
        wait_until(lambda: not self._idle_agents(), "agents without a build are gone")
        return code

    def _idle_agents(self):
        inherited = processes(f"SYSTEM_TEST={self.data}").values()
        return [line for line in inherited if "--wait" in line]

    def client(self, service, **settings):
        """A boto3 client whose every answer is held against AWS's model."""
        defaults = {"retries": {"max_attempts": 0}, "s3": {"addressing_style": "path"}, "max_pool_connections": 50}
        client = boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            config=Config(**(defaults | settings)),
        )
        return strict.watch(_without_idle_connections(client))

    def environment(self):
        """Variables that point any AWS client here."""
        hidden = ("AWS_PROFILE", "AWS_SESSION_TOKEN")
        kept = {name: value for name, value in os.environ.items() if name not in hidden}
        return kept | {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_PAGER": "",
        }

    def traces(self):
        """Take this when no build runs."""
        return Traces([f"{self.data}/builds/"], [self.data / "builds"])


def _without_idle_connections(client):
    """The server hangs up on who says nothing for ten seconds, maybe just when something is said: nothing is after half of that."""
    last = [time.monotonic()]

    def look(**_):
        if time.monotonic() - last[0] > IDLE_SECONDS:
            client._endpoint.http_session.close()
        last[0] = time.monotonic()

    client.meta.events.register("before-send", look)
    return client


class Codebuild:
    """The verbs of a CodeBuild user."""

    def __init__(self, server):
        self.server = server
        self.api = server.client("codebuild")
        self.logs = server.client("logs")
        self.s3 = server.client("s3")

    def create_project(self, name, buildspec=None, source=None, artifacts=None, **more):
        given = {"buildspec": buildspec} if buildspec is not None else {}
        return self.api.create_project(
            name=name,
            source=(source or {"type": "NO_SOURCE"}) | given,
            artifacts=artifacts or {"type": "NO_ARTIFACTS"},
            environment=more.pop("environment", ENVIRONMENT),
            serviceRole=f"arn:aws:iam::{ACCOUNT}:role/codebuild",
            **more,
        )["project"]

    def start(self, project, **overrides):
        return self.api.start_build(projectName=project, **overrides)["build"]

    def build(self, build_id):
        return self.api.batch_get_builds(ids=[build_id])["builds"][0]

    def wait(self, build_id, seconds=120):
        """The build once it is complete."""

        def complete():
            build = self.build(build_id)
            return build if build["buildComplete"] else None

        return wait_until(complete, f"{build_id} complete", seconds, 0.02)

    def reached(self, build_id, phase="BUILD"):
        """The build once that phase has begun, however far it is by now."""

        def begun():
            build = self.build(build_id)
            return build if phase in outcome(build)[1] else None

        return wait_until(begun, f"{phase} of {build_id}")

    def wake(self, build_id):
        """Ends the `sleep` that a command of the build waits for."""
        asleep = lambda: [pid for pid, line in processes(f"CODEBUILD_BUILD_ID={build_id}").items() if line.startswith("sleep ")]
        for pid in wait_until(asleep, f"{build_id} asleep"):
            os.kill(pid, signal.SIGKILL)

    def run(self, project, seconds=120, **overrides):
        return self.wait(self.start(project, **overrides)["id"], seconds)

    def log(self, build):
        """The whole log of a build as text."""
        place = {"logGroupName": build["logs"]["groupName"], "logStreamName": build["logs"]["streamName"]}
        text, token = [], {}
        while True:
            page = self.logs.get_log_events(**place, startFromHead=True, **token)
            text += [event["message"] for event in page["events"]]
            if page["nextForwardToken"] == token.get("nextToken"):
                return "".join(text)
            token = {"nextToken": page["nextForwardToken"]}


@contextlib.contextmanager
def unreadable(server, table):
    """What asks for this table's rows fails meanwhile."""
    with contextlib.closing(sqlite3.connect(f"{server.data}/records.sqlite", isolation_level=None)) as records:
        records.execute("PRAGMA legacy_alter_table = ON")
        records.execute(f"ALTER TABLE {table} RENAME TO away")
        try:
            yield
        finally:
            records.execute(f"ALTER TABLE away RENAME TO {table}")


def outcome(build):
    """`(status, {phase: status})`."""
    return build["buildStatus"], {phase["phaseType"]: phase.get("phaseStatus") for phase in build["phases"]}


def contexts(build):
    """`{phase: (status code, message)}` of the phases that have something to say."""
    told = {}
    for phase in build["phases"]:
        for context in phase.get("contexts") or []:
            if context.get("statusCode") or context.get("message"):
                told[phase["phaseType"]] = (context.get("statusCode"), context.get("message"))
    return told


def lines_with(pattern, text):
    return re.findall(pattern, text, re.MULTILINE)
