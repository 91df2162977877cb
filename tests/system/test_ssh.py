"""Sources from git servers over ssh: what is fetched, whose key is believed, and that nobody finds the key."""

import os
import subprocess

import pytest

from host import wait_until
from hunt import hunting, nothing_found
from local import BINARY
from served import Codebuild, Server, contexts
from sshserver import SshServer, make_key
from test_sources import SHOW, source, succeeded


@pytest.fixture(scope="module")
def ssh(tmp_path_factory):
    server = SshServer(tmp_path_factory.mktemp("ssh")).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def public(ssh):
    """An application, with a submodule that lies beside it."""
    lib = ssh.repository("team/lib.git")
    lib.commit(lib_txt="of the submodule\n")
    app = ssh.repository("team/app.git")
    app.git("submodule", "--quiet", "add", "--", str(lib.bare), "lib")
    app.git("config", "--file", ".gitmodules", "submodule.lib.url", "../lib.git")
    app.head = app.commit(file_txt="over ssh\n", buildspec_yml=SHOW)
    return app


@pytest.fixture
def serve(tmp_path):
    """Starts servers with these settings of `[sources]`."""
    servers = []

    def start(**settings):
        data = tmp_path / f"data{len(servers)}"
        data.mkdir(mode=0o700)
        lines = [f"{key} = '{value}'" for key, value in settings.items()]
        (data / "buildyard.toml").write_text("\n".join(["[sources]", "allow = ['127.0.0.0/8', '::1']", *lines]))
        servers.append(Server(data))
        servers[-1].start()
        return Codebuild(servers[-1])

    yield start
    for server in servers:
        server.stop()


# SA-003, SA-021, EN-081
def test_a_repository_is_fetched_over_ssh_and_the_key_found_nowhere(ssh, public, serve, name):
    codebuild = serve(ssh_key=ssh.key, ssh_known_hosts=ssh.known_hosts)
    where = source(public, gitSubmodulesConfig={"fetchSubmodules": True})
    codebuild.create_project(name, source=where, cache={"type": "LOCAL", "modes": ["LOCAL_SOURCE_CACHE"]})
    build = codebuild.run(name, 120)
    log = succeeded(codebuild, build)
    assert build["resolvedSourceVersion"] == public.head and "over ssh" in log
    assert f"at={public.head} on=HEAD" in log and f"url={public.url}" in log
    assert f"/src/localhost{ssh.folder}/repositories/team/app resolved=" in log
    # The key's own words; a line of it, since some hold files line by line.
    needle = ssh.key.read_text().splitlines()[2]
    spec = hunting(needle, ["cat lib/lib.txt"], data=codebuild.server.data)
    build = codebuild.run(name, 300, buildspecOverride=spec)
    log = succeeded(codebuild, build)
    assert "of the submodule" in log
    nothing_found(log)


def test_what_is_missing_or_not_believed_is_named(ssh, public, serve, tmp_path, name):
    stranger = make_key(tmp_path / "stranger")
    changed = ssh.known(tmp_path / "changed", tmp_path / "stranger.pub")
    (tmp_path / "nobody").write_text("# nobody\n")
    here = f"[localhost]:{ssh.port}"
    cases = [
        ({}, "localhost is spoken to by ssh, and there is no key for it: set sources.ssh_key"),
        ({"ssh_key": ssh.key}, "localhost is spoken to by ssh, and no host's key is known: set sources.ssh_known_hosts"),
        ({"ssh_key": ssh.key, "ssh_known_hosts": tmp_path / "nobody"}, f"Git clone failed: the key of {here} is not in sources.ssh_known_hosts"),
        ({"ssh_key": ssh.key, "ssh_known_hosts": changed}, f"Git clone failed: {here} has another key than the one in sources.ssh_known_hosts"),
        ({"ssh_key": stranger, "ssh_known_hosts": ssh.known_hosts}, f"authentication required for primary source and source version HEAD: {here} takes no key of sources.ssh_key"),
        ({"ssh_key": tmp_path / "gone", "ssh_known_hosts": ssh.known_hosts}, f"the ssh key {tmp_path}/gone cannot be read"),
    ]
    for settings, message in cases:
        codebuild = serve(**settings)
        codebuild.create_project(name, source=source(public))
        code, told = contexts(codebuild.run(name, 120))["DOWNLOAD_SOURCE"]
        assert code == "CLIENT_ERROR" and told.startswith(message), (settings, told)
    codebuild = serve(ssh_key=ssh.key, ssh_known_hosts=ssh.known_hosts)
    for location, message in [
        (f"{ssh.url}/none.git", "repository not found for primary source"),
        (f"ssh://{ssh.user}@localhost:1/none.git", "Git clone failed: Ssh: connect to host"),
    ]:
        codebuild.api.batch_get_projects(names=[name])["projects"] or codebuild.create_project(name, source=source(public))
        told = contexts(codebuild.run(name, 120, sourceLocationOverride=location))["DOWNLOAD_SOURCE"][1]
        assert told.startswith(message), told


def local(home, location, command=(str(BINARY),), more=(), **variables):
    """`buildyard run` of somebody with this home."""
    spec = "version: 0.2\nphases: {build: {commands: [cat file.txt lib/lib.txt]}}\n"
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "BUILDYARD_DATA": str(home / "data")} | variables
    command = [*command, "run", location, "--buildspec", spec, *more]
    return subprocess.run(command, env=environment, cwd=home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)


@pytest.fixture
def agent(tmp_path, ssh):
    """An ssh-agent that holds the key."""
    sock = tmp_path / "agent.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL)
    wait_until(sock.exists, "ssh-agent listens")
    subprocess.run(["ssh-add", "-q", str(ssh.key)], env=os.environ | {"SSH_AUTH_SOCK": str(sock)}, check=True)
    yield str(sock)
    process.terminate()
    process.wait()


def test_run_uses_the_users_own_keys_or_agent(ssh, public, agent, tmp_path):
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    done = local(home, public.url)
    assert done.returncode == 1 and "SSH_AUTH_SOCK" in done.stdout, done.stdout
    done = local(home, public.url, SSH_AUTH_SOCK=agent)
    assert done.returncode == 1 and "~/.ssh/known_hosts" in done.stdout, done.stdout
    ssh.known(home / ".ssh/known_hosts", ssh.folder / "host_key.pub")
    done = local(home, public.url, SSH_AUTH_SOCK=agent, more=["-s", f"again:{public.url}"])
    assert done.returncode == 0 and "over ssh\nof the submodule\n" in done.stdout, done.stdout
    key = home / ".ssh/id_ed25519"
    key.write_bytes(ssh.key.read_bytes())
    key.chmod(0o600)
    done = local(home, public.url)
    assert done.returncode == 0 and "over ssh\nof the submodule\n" in done.stdout, done.stdout


def test_so_does_an_ordinary_user(ssh, public, ordinary_project):
    home = ordinary_project.home
    (home / ".ssh").mkdir(mode=0o700)
    ssh.known(home / ".ssh/known_hosts", ssh.folder / "host_key.pub")
    key = home / ".ssh/id_ed25519"
    key.write_bytes(ssh.key.read_bytes())
    for path in (home / ".ssh", home / ".ssh/known_hosts", key):
        os.chown(path, ordinary_project.user, ordinary_project.user)
    key.chmod(0o600)
    done = local(home, public.url, ordinary_project.as_user())
    assert done.returncode == 0 and "over ssh\nof the submodule\n" in done.stdout, done.stdout
    sock = home / "agent.sock"
    agent = subprocess.Popen(["setpriv", "--reuid", str(ordinary_project.user), "--clear-groups", "--", "ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL)
    try:
        wait_until(sock.exists, "ssh-agent listens")
        subprocess.run(["ssh-add", "-q", str(ssh.key)], env=os.environ | {"SSH_AUTH_SOCK": str(sock)}, check=True)
        key.unlink()
        done = local(home, public.url, ordinary_project.as_user(), SSH_AUTH_SOCK=str(sock))
        assert done.returncode == 0 and "over ssh\nof the submodule\n" in done.stdout, done.stdout
    finally:
        agent.terminate()
        agent.wait()
