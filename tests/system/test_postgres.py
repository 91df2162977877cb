"""`buildyard serve --database postgres://...`: the same service, through kills of the server and of the database."""

import json
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import botocore.exceptions
import pytest

from host import wait_until
from local import BINARY, spec
from served import Codebuild, Server, lines_with, outcome

SCRIPT = Path(__file__).parent.parent / "postgres"
LINES = 30
COMMANDS = [f"n=0; while [ $n -lt {LINES} ]; do n=$((n+1)); echo count $n; sleep 0.1; done"]


def counted(log):
    return len(lines_with(r"^count \d+$", log))


class Database:
    """A PostgreSQL server in a folder of its own, in memory where there is such a folder."""

    def __init__(self):
        memory = Path("/dev/shm")
        self.folder = tempfile.mkdtemp(prefix="buildyard-", dir=memory if memory.is_dir() else None)
        self.url = self.start()

    def start(self):
        return self._script("start")

    def kill(self):
        self._script("kill")

    def remove(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _script(self, command):
        done = subprocess.run([SCRIPT, command, self.folder], stdout=subprocess.PIPE, text=True, timeout=300)
        assert done.returncode == 0, f"tests/postgres {command} failed; is Debian's package postgresql installed?"
        return done.stdout.strip()


@pytest.fixture
def database():
    database = Database()
    yield database
    database.remove()


def test_projects_builds_logs_and_secrets_are_in_postgresql_and_outlive_the_server(database, make_server):
    server = make_server("--database", database.url)
    codebuild = Codebuild(server)
    secrets = server.client("secretsmanager")
    secrets.create_secret(Name="db", SecretString="größe")
    codebuild.create_project("stored", json.dumps(spec(build=["echo hello from postgres"])), description="größe")
    first = codebuild.run("stored")
    assert outcome(first)[0] == "SUCCEEDED"
    codebuild.create_project("slow", json.dumps(spec(build=COMMANDS)))
    running = codebuild.start("slow")["id"]
    codebuild.reached(running)

    server.kill()
    server.start()
    assert codebuild.build(first["id"]) == first
    assert "hello from postgres" in codebuild.log(first)
    assert codebuild.api.batch_get_projects(names=["stored"])["projects"][0]["description"] == "größe"
    assert secrets.get_secret_value(SecretId="db")["SecretString"] == "größe"
    done = codebuild.wait(running)
    assert outcome(done)[0] == "SUCCEEDED"
    assert counted(codebuild.log(done)) == LINES, "each line once"
    assert codebuild.start("stored")["buildNumber"] == 2
    assert codebuild.api.list_builds(sortOrder="ASCENDING")["ids"][:2] == [first["id"], running]
    assert not list(server.data.glob("records.sqlite*"))


class Client(threading.Thread):
    """Starts builds one after another, and repeats with the same token what was not answered well."""

    def __init__(self, server, name, done):
        super().__init__(daemon=True)
        self.api, self.name_, self.done = Codebuild(server).api, name, done
        self.accepted, self.refusals, self.failure = {}, [], None

    def run(self):
        try:
            for number in range(10**6):
                if self.done.is_set():
                    return
                self.start_one(f"{self.name_}-{number}")
                self.done.wait(0.2)
        except Exception as error:  # noqa: BLE001 the test's own thread reports it
            self.failure = error

    def start_one(self, token):
        while True:
            try:
                answer = self.api.start_build(projectName="quick", idempotencyToken=token)
                self.accepted[token] = answer["build"]["id"]
                return
            except botocore.exceptions.ClientError as error:
                self.refusals.append(error.response["ResponseMetadata"]["HTTPStatusCode"])
            # Also when it is over: what was refused may have been made, and is told then.
            time.sleep(0.1)


def test_a_database_that_is_killed_costs_no_answered_build_and_is_found_again(database, make_server):
    server = make_server("--database", database.url, "--concurrent-builds", "4")
    codebuild = Codebuild(server)
    codebuild.create_project("quick", json.dumps(spec(build=["echo quick"])))
    codebuild.create_project("slow", json.dumps(spec(build=COMMANDS)))
    done = threading.Event()
    clients = [Client(server, name, done) for name in ("a", "b")]
    for client in clients:
        client.start()
    slow = []
    for _ in range(2):
        slow.append(codebuild.start("slow")["id"])
        codebuild.reached(slow[-1])
        database.kill()
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            codebuild.api.list_builds()
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        before = {client: len(client.refusals) for client in clients}
        wait_until(lambda: all(len(client.refusals) > before[client] for client in clients), "clients are refused")
        database.start()
        # By itself: nobody tells the server.
        answered = sum(len(client.accepted) for client in clients)
        wait_until(lambda: sum(len(client.accepted) for client in clients) > answered + 3, "builds again")
    done.set()
    for client in clients:
        client.join(120)
        assert not client.is_alive()
        assert client.failure is None, client.failure
        assert set(client.refusals) == {503}

    accepted = [build for client in clients for build in client.accepted.values()]
    assert len(accepted) == len(set(accepted)), "a build for each token"
    for build in accepted + slow:
        assert outcome(codebuild.wait(build, 300))[0] == "SUCCEEDED", build
    for build in slow:
        assert counted(codebuild.log(codebuild.build(build))) == LINES, "each line once"
    pages = codebuild.api.get_paginator("list_builds").paginate()
    listed = [build for page in pages for build in page["ids"]]
    assert sorted(listed) == sorted(accepted + slow)


def test_a_database_is_one_servers_and_no_message_shows_its_password(database, make_server, tmp_path):
    make_server("--database", database.url)

    def refused(url):
        command = [BINARY, "serve", "--listen", "127.0.0.1:0", "--data", tmp_path / "second", "--database", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode != 0
        assert "hunter2" not in done.stdout + done.stderr
        return done.stderr

    secret = database.url.replace("user=test", "user=test&password=hunter2")
    assert "in use by another process" in refused(secret)
    assert "sslmode=require" in refused(f"{secret}&sslmode=require")
    assert "no database" in refused("postgres://test:hunter2@127.0.0.1")
    assert "postgres://test@127.0.0.1:1/yard" in refused("postgres://test:hunter2@127.0.0.1:1/yard")


def test_a_data_folder_is_one_servers_whichever_database_it_has(database, make_server):
    server = make_server()
    second = Server(server.data, "--database", database.url)
    with pytest.raises(AssertionError, match="in use by another process"):
        second.start()
