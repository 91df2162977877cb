"""What all system tests share: the binary, source folders, servers.

The tests use the binary named by BUILDYARD, or else target/release/buildyard.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from gitserver import GitServer
from host import wait_until
from local import BINARY, Project
from served import Codebuild, Server
from waiting import Waiting
from world import World

ORDINARY = 64123


def pytest_addoption(parser):
    """For test_abuse.py, test_mutants.py, test_log_volume.py, test_real_builds.py and test_stores.py; the whole forms are in CONTRIBUTING.md."""
    parser.addoption("--abuse-rounds", type=int, default=1, help="how often each abuser is run")
    parser.addoption("--leak-builds", type=int, default=60, help="how many builds must leave nothing behind")
    parser.addoption("--transfers", type=int, default=40, help="how many transfers are made under faults")
    parser.addoption("--log-percent", type=int, default=10, help="how much of 12 GB and 60 million lines long logs have")
    parser.addoption("--random-requests", type=int, default=3000, help="how many random requests are made")
    parser.addoption("--seed", default="buildyard", help="what they are made from")
    parser.addoption("--real-builds", metavar="IMAGE", help="an example image with python, nodejs and rust")
    parser.addoption("--first", type=int, default=0, help="number of the first")


def pytest_configure():
    if not os.access(BINARY, os.X_OK):
        pytest.exit(f"{BINARY} is not there; build it (cargo build --release) or set BUILDYARD", 2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Beside what failed stands what its servers said last."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            for server in getattr(value, "servers", [getattr(value, "server", value)]):
                if isinstance(server, Server) and server.log.exists():
                    report.sections.append((f"last words of {server.data}", last_words(server.log)))
    return report


def last_words(log):
    return "\n".join(log.read_text(errors="replace").splitlines()[-40:])


def pytest_collection_modifyitems(items):
    """What waits in real time is looked at last."""
    items.sort(key=lambda item: "waiting" in item.fixturenames)


@pytest.fixture(scope="session")
def waiting(tmp_path_factory):
    """Builds that are on their way into their timeouts."""
    waiting = Waiting(tmp_path_factory.mktemp("waiting"))
    yield waiting
    waiting.stop()


@pytest.fixture(scope="session", autouse=True)
def early(request):
    """What waits in real time begins first, if it is to be looked at at all."""
    if any("waiting" in item.fixturenames for item in request.session.items):
        request.getfixturevalue("waiting")


@pytest.fixture
def project(tmp_path):
    """An empty source folder."""
    return Project(tmp_path)


@pytest.fixture
def make_project(tmp_path):
    """Makes source folders, one a call."""
    return lambda: Project(tmp_path)


@pytest.fixture
def ordinary_project():
    """A source folder, a home and a binary of a user who is nobody special."""
    if os.geteuid() != 0:
        pytest.skip("these tests already run as an ordinary user")
    place = Path(tempfile.mkdtemp(prefix="ordinary-"))
    place.chmod(0o755)
    binary = Path(shutil.copy(BINARY, place / "buildyard"))
    project = Project(place, user=ORDINARY, binary=binary)
    project.home = place / "home"
    project.home.mkdir()
    for path in (project.folder, project.home):
        os.chown(path, ORDINARY, ORDINARY)
    yield project
    # What is stopped may be writing still.
    wait_until(lambda: shutil.rmtree(place, ignore_errors=True) or not place.exists(), f"{place} is gone")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server for the tests of one file."""
    server = Server(tmp_path_factory.mktemp("server") / "data")
    traces = server.traces()
    server.start()
    yield server
    server.stop()
    traces.gone()


@pytest.fixture(scope="module")
def git(tmp_path_factory):
    """A git server for the tests of one file."""
    server = GitServer(tmp_path_factory.mktemp("git"))
    yield server.start()
    server.stop()


@pytest.fixture(scope="module")
def fetching_server(git, tmp_path_factory):
    """A server that may fetch from this host, and trusts the git server's authority."""
    data = tmp_path_factory.mktemp("server") / "data"
    data.mkdir(mode=0o700)
    (data / "buildyard.toml").write_text(f"[sources]\nallow = ['127.0.0.0/8', '::1']\ncertificates = '{git.authority}'\n")
    server = Server(data)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make_server(tmp_path):
    """Makes servers with flags of the test's choice; stops them afterwards."""
    servers = []

    def make(*flags):
        servers.append(Server(tmp_path / f"data{len(servers)}", *flags))
        servers[-1].start()
        return servers[-1]

    make.servers = servers
    yield make
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A server with something for every operation, for the tests of one file."""
    world = World(tmp_path_factory.mktemp("world") / "data")
    yield world
    world.stop()
    assert "panicked" not in world.server.log.read_text(errors="replace")


@pytest.fixture
def codebuild(server):
    return Codebuild(server)


@pytest.fixture
def name(request):
    """A project name of this test's own."""
    return request.node.originalname.removeprefix("test_").replace("_", "-")[:100]
