"""Sources from git servers and from S3: what is fetched, where it lies, and what of it a build can see."""

import os
import re
import socket
import subprocess
import zipfile
from pathlib import Path

import pytest

import codecommit as codecommit_
from codecommit import CodeCommit
from gitserver import PASSWORD, GitServer
from host import files_below, wait_until
from hostile import MARK, REPOSITORIES
from hunt import hunting, nothing_found
from local import BINARY
from served import Codebuild, Server, contexts, outcome

SHOW = """version: 0.2
phases:
  build:
    commands:
      - echo "at=$(git rev-parse HEAD) on=$(git rev-parse --abbrev-ref HEAD) commits=$(git rev-list --count HEAD)"
      - echo "dir=$CODEBUILD_SRC_DIR resolved=$CODEBUILD_RESOLVED_SOURCE_VERSION version=$CODEBUILD_SOURCE_VERSION url=$CODEBUILD_SOURCE_REPO_URL"
      - git status --porcelain | sed 's/^/changed /'
      - cat file.txt
"""


@pytest.fixture(scope="module")
def server(fetching_server):
    return fetching_server


@pytest.fixture(scope="module")
def public(git):
    """A repository whose `main` has three commits; there are a branch, a tag and a pull request."""
    repository = git.repository("public/app.git")
    repository.commits = [repository.commit(file_txt=f"content {number}\n", buildspec_yml=SHOW) for number in range(3)]
    repository.branch = repository.commit(branch="feature/x", file_txt="of the branch\n")
    repository.git("tag", "--annotate", "--message", "t", "v1", repository.commits[1])
    repository.push("refs/tags/v1")
    repository.pull = repository.commit(branch="later-deleted", file_txt="of the pull request\n")
    repository.push("HEAD:refs/pull/7/head", ":refs/heads/later-deleted")
    return repository


def source(repository, **more):
    return {"type": "GITHUB_ENTERPRISE", "location": repository.url} | more


def built(codebuild, name, source, seconds=120, **more):
    codebuild.create_project(name, source=source, **more)
    return codebuild.run(name, seconds)


def succeeded(codebuild, build):
    log = codebuild.log(build)
    assert build["buildStatus"] == "SUCCEEDED", (contexts(build), log)
    return log


# SA-001, SA-003, SA-023, SA-027, SA-029, EN-081, LC-010
def test_a_repository_is_built_at_its_default_branch(codebuild, public, name):
    build = built(codebuild, name, source(public))
    log = succeeded(codebuild, build)
    commit = public.commits[2]
    assert build["resolvedSourceVersion"] == commit
    assert f"at={commit} on=HEAD commits=3" in log
    assert "/src/localhost/public/app resolved=" + commit in log
    assert f"url={public.url}" in log
    assert "content 2" in log and "changed  M" not in log and "changed ??" not in log
    assert "YAML location is /codebuild/output/src" in log and "/src/localhost/public/app/buildspec.yml" in log


# SA-020, SA-023, SA-024, SA-025, SA-026
def test_each_kind_of_version_is_found(codebuild, public, name):
    first, second, third = public.commits
    codebuild.create_project(name, source=source(public, gitCloneDepth=1), sourceVersion="feature/x")
    cases = [
        (None, public.branch, "of the branch", 1),
        ("main", third, "content 2", 1),
        ("v1", second, "content 1", 1),
        ("refs/heads/main", third, "content 2", 1),
        ("refs/tags/v1", second, "content 1", 1),
        ("pr/7", public.pull, "of the pull request", 1),
        ("refs/pull/7/head", public.pull, "of the pull request", 1),
        (first, first, "content 0", 1),
        (second[:9], second, "content 1", 2),
        (f"main^{{{second}}}", second, "content 1", 2),
        (f"pr/7^{{{first}}}", first, "content 0", 1),
    ]
    builds = []
    for version, *_ in cases:
        builds.append(codebuild.start(name, **({"sourceVersion": version} if version else {})))
    for (version, commit, text, commits), build in zip(cases, builds):
        build = codebuild.wait(build["id"], 300)
        log = succeeded(codebuild, build)
        assert build["resolvedSourceVersion"] == commit, version
        assert text in log and f"commits={commits}" in log, version


# SA-028, SA-022
def test_documented_failures_are_told_in_codebuilds_words(codebuild, git, public, name):
    cases = [
        (source(public), "gone", "reference not found for primary source and source version gone"),
        (source(public), "f" * 40, f"reference not found for primary source and source version {'f' * 40}"),
        ({"type": "GITHUB_ENTERPRISE", "location": f"{git.url}/public/none.git"}, None, "repository not found for primary source and source version HEAD"),
        ({"type": "GITHUB_ENTERPRISE", "location": f"{git.url}/private/none.git"}, None, "authentication required for primary source and source version HEAD"),
        ({"type": "GITHUB_ENTERPRISE", "location": f"{git.url}/redirect/app.git"}, None, "Git clone failed: "),
    ]
    codebuild.create_project(name, source=source(public))
    for changed, version, message in cases:
        over = {"sourceLocationOverride": changed["location"]} | ({"sourceVersion": version} if version else {})
        build = codebuild.run(name, 120, **over)
        code, told = contexts(build)["DOWNLOAD_SOURCE"]
        assert code == "CLIENT_ERROR" and told.startswith(message), (changed, told)
        assert outcome(build)[0] == "FAILED" and "INSTALL" not in outcome(build)[1]


# SA-022, SA-028
def test_a_certificate_of_nobody_known_is_refused_unless_it_shall_not_matter(git, public, tmp_path, name):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "buildyard.toml").write_text("[sources]\nallow = ['127.0.0.0/8', '::1']\n")
    server = Server(data)
    server.start()
    try:
        codebuild = Codebuild(server)
        build = built(codebuild, name, source(public))
        told = f"Git clone failed: Unable to access '{public.url}': SSL certificate problem: Self signed certificate"
        assert contexts(build)["DOWNLOAD_SOURCE"] == ("CLIENT_ERROR", told)
        succeeded(codebuild, codebuild.run(name, 120, insecureSslOverride=True))
    finally:
        server.stop()


# SA-050, SA-053
def test_a_private_repository_is_fetched_and_its_token_found_nowhere(codebuild, git, server, name):
    private = git.repository("private/team/app.git")
    commit = private.commit(file_txt="secret content\n")
    codebuild.api.import_source_credentials(serverType="GITHUB_ENTERPRISE", authType="PERSONAL_ACCESS_TOKEN", token=PASSWORD)
    try:
        spec = hunting(PASSWORD, ["cat file.txt"], host=f"localhost:{git.port}", data=server.data)
        codebuild.create_project(name, buildspec=spec, source=source(private))
        build = codebuild.run(name, 120)
    finally:
        (held,) = codebuild.api.list_source_credentials()["sourceCredentialsInfos"]
        codebuild.api.delete_source_credentials(arn=held["arn"])
    log = succeeded(codebuild, build)
    assert build["resolvedSourceVersion"] == commit and "secret content" in log
    assert PASSWORD not in log
    nothing_found(log)
    wait_until(lambda: not any((server.data / "builds").glob(f"{build['id'].split(':')[1]}*")), "the build's folder is gone")
    assert [path for path, content in files_below(server.data) if PASSWORD.encode() in content] == []
    # Without the credential there is no way in.
    build = codebuild.run(name, 120)
    assert contexts(build)["DOWNLOAD_SOURCE"][1].startswith("authentication required for primary source")


# SA-021
def test_submodules_come_where_they_are_wanted(codebuild, git, public, name):
    inner = git.repository("public/inner.git")
    inner.commit(inner_txt="inner\n")
    middle = git.repository("public/middle.git")
    middle.git("submodule", "--quiet", "add", "--", str(inner.bare), "deep/inner")
    middle.git("config", "--file", ".gitmodules", "submodule.deep/inner.url", "../inner.git")
    middle.commit(middle_txt="middle\n")
    outer = git.repository("public/outer.git")
    outer.git("submodule", "--quiet", "add", "--", str(middle.bare), "lib")
    outer.git("config", "--file", ".gitmodules", "submodule.lib.url", middle.url)
    outer.commit(file_txt="outer\n")
    spec = "version: 0.2\nphases: {build: {commands: [cat file.txt, 'ls -A lib | wc -l', 'cat lib/middle.txt lib/deep/inner/inner.txt || true']}}\n"
    codebuild.create_project(name, buildspec=spec, source=source(outer, gitSubmodulesConfig={"fetchSubmodules": True}))
    log = succeeded(codebuild, codebuild.run(name, 120))
    assert "\nmiddle\n" in log and "\ninner\n" in log
    log = succeeded(codebuild, codebuild.run(name, 120, gitSubmodulesConfigOverride={"fetchSubmodules": False}))
    assert "\nmiddle\n" not in log and "\n0\n" in log


# SA-040, SA-041, SA-042, SA-043, EN-083
def test_secondary_sources_lie_in_folders_of_their_own(codebuild, git, public, name):
    bucket = f"bucket-{name[:30]}"
    codebuild.s3.create_bucket(Bucket=bucket)
    codebuild.s3.put_object(Bucket=bucket, Key="folder/deep/a.txt", Body=b"from s3\n")
    spec = """version: 0.2
phases:
  build:
    commands:
      - cat file.txt $CODEBUILD_SRC_DIR_again/file.txt $CODEBUILD_SRC_DIR_files/deep/a.txt
      - echo "versions=$CODEBUILD_SOURCE_VERSION_again urls=$CODEBUILD_SOURCE_REPO_URL_again,$CODEBUILD_SOURCE_REPO_URL_files"
      - echo "dirs=$CODEBUILD_SRC_DIR_again,$CODEBUILD_SRC_DIR_files"
"""
    secondary = [
        source(public, sourceIdentifier="again", gitCloneDepth=1),
        {"type": "S3", "location": f"{bucket}/folder/", "sourceIdentifier": "files"},
    ]
    versions = [{"sourceIdentifier": "again", "sourceVersion": "v1"}]
    codebuild.create_project(name, buildspec=spec, source=source(public), secondarySources=secondary, secondarySourceVersions=versions)
    build = codebuild.run(name, 120)
    log = succeeded(codebuild, build)
    assert "\ncontent 2\ncontent 1\nfrom s3\n" in log, log
    assert f"versions=v1 urls={public.url},s3://{bucket}/folder/" in log
    assert "/src/localhost/public/app," in log and "/src/s3/02" in log
    assert build["resolvedSourceVersion"] == public.commits[2]
    over = [{"sourceIdentifier": "again", "sourceVersion": "pr/7"}]
    log = succeeded(codebuild, codebuild.run(name, 120, secondarySourcesVersionOverride=over))
    assert "\ncontent 2\nof the pull request\nfrom s3\n" in log
    build = codebuild.run(name, 120, secondarySourcesVersionOverride=[{"sourceIdentifier": "again", "sourceVersion": "gone"}])
    assert contexts(build)["DOWNLOAD_SOURCE"][1] == "reference not found for secondary source again and source version gone"


# SA-021
def test_hostile_repositories_do_no_harm(codebuild, git, name):
    spec = "version: 0.2\nphases: {build: {commands: [cat file.txt, 'ls -lA', 'git status --porcelain']}}\n"
    codebuild.create_project(name, buildspec=spec, source={"type": "GITHUB_ENTERPRISE", "location": f"{git.url}/x"})
    started = {}
    for number, (what, (make, with_submodules, _)) in enumerate(REPOSITORIES.items()):
        repository = git.repository(f"public/hostile/{number}.git")
        make(repository)
        over = {"fetchSubmodules": with_submodules}
        started[what] = codebuild.start(name, sourceLocationOverride=repository.url, gitSubmodulesConfigOverride=over)["id"]
    assert len(started) >= 30
    wrong = []
    for what, build_id in started.items():
        build = codebuild.wait(build_id, 600)
        may_go_on = REPOSITORIES[what][2]
        expect = "SUCCEEDED" if may_go_on else "FAILED"
        told = contexts(build).get("DOWNLOAD_SOURCE")
        # A message may quote the mark from a URL; a build that goes on must not come across it.
        is_marked = may_go_on and MARK in codebuild.log(build)
        if build["buildStatus"] != expect or (not may_go_on and told[0] != "CLIENT_ERROR") or is_marked:
            wrong.append((what, build["buildStatus"], told))
    assert wrong == []
    walked = [place for top in ("/tmp", "/var/tmp", "/dev/shm") for place in os.walk(top)]
    assert [folder for folder, folders, names in walked if MARK in [*folders, *names]] == []


def forms(port):
    """Locations of what is not public, in every way to write it."""
    hosts = ["127.0.0.1", "127.0.0.2", "127.1", "127.0.1", "0", "0.0.0.0", "2130706433", "017700000001", "0177.0.0.1", "0x7f000001", "0x7f.0.0.1", "0x7f.1"]
    hosts += ["0177.1", "127.0.0.1.", "localhost", "LOCALHOST", "localhost.", "[::]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"]
    hosts += ["[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "[fe80::1%25lo]", "[fd00::1]", "[ff02::1]", "[::ffff:169.254.169.254]"]
    hosts += ["169.254.169.254", "169.254.170.2", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.0.1"]
    hosts += ["192.168.0.1", "192.168.255.255", "100.64.0.1", "198.18.0.1", "192.0.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1"]
    hosts += ["255.255.255.255", "user@127.0.0.1", "user:password@127.0.0.1", "github.com@127.0.0.1", "127.0.0.1\\@github.com", "127.0.0.1#@github.com"]
    hosts += ["127.0.0.1?@github.com", "127.0.0.1%00.github.com", "127.0.0.1%2f@github.com", "①②⑦.⓪.⓪.①", "127。0。0。1", "ⓛocalhost", "127.0.0.1\t", "127.0.0.1 "]
    hosts += ["127.0.0.1%0d%0aHost:x", "-127.0.0.1", "127.0.0.1-", "127..0.1", "[127.0.0.1]", "[::1", "::1", "", "1.1.1.1:80:127.0.0.1"]
    locations = [f"https://{host}:{port}/team/app.git" for host in hosts] + [f"http://{host}:{port}/team/app.git" for host in hosts[:24]]
    near = f"127.0.0.1:{port}/team/app.git"
    schemes = ["git", "ssh", "ftp", "ftps", "file", "gopher", "dict", "ldap", "tftp", "smb", "sftp", "telnet", "imap", "rtsp", "mqtt", "ws", "data", "javascript", "rsync", "svn", "bzr"]
    locations += [f"{scheme}://{near}" for scheme in schemes] + [f"{helper}::https://{near}" for helper in ("ext", "fd", "http", "https", "testgit", "foreign")]
    locations += [f"git@127.0.0.1:{port}/team/app.git", f"//{near}", f"https:{near}", f"https:/{near}", f"https:\\\\{near}", f"https:///{near}", f" https://{near}", f"https://{near}\n", "/etc", "../..", "-u"]
    return locations


class Listener:
    """Counts who connects to it, on all of this host's addresses."""

    def __init__(self):
        self.socket = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]

    def connections(self):
        count = 0
        while True:
            try:
                self.socket.accept()
                count += 1
            except BlockingIOError:
                return count


# SA-003, SA-021
def test_no_location_leads_into_the_servers_own_network(make_server, git, name):
    codebuild = Codebuild(make_server())
    listener = Listener()
    codebuild.create_project(name, buildspec="version: 0.2\nphases: {}\n", source={"type": "NO_SOURCE"})
    locations = forms(listener.port)
    assert len(locations) >= 120 and len(set(locations)) == len(locations)
    started = {}
    for location in locations:
        for sink in ("primary", "secondary"):
            here = {"type": "GITHUB_ENTERPRISE", "location": location, "sourceIdentifier": "two"}
            if sink == "primary":
                over = {"sourceTypeOverride": here["type"], "sourceLocationOverride": location}
            else:
                over = {"secondarySourcesOverride": [here]}
            try:
                started[sink, location] = codebuild.start(name, **over)["id"]
            except codebuild.api.exceptions.InvalidInputException as refused:
                assert "location" in str(refused)
    for build_id in started.values():
        code, message = contexts(codebuild.wait(build_id, 600))["DOWNLOAD_SOURCE"]
        assert code == "CLIENT_ERROR" and ("which is no public address" in message or "has no address" in message), message
    assert 20 <= len(started) <= 100
    assert listener.connections() == 0
    listener.socket.close()


# SA-001, SA-042
def test_run_builds_a_repository_and_further_ones(git, public, tmp_path):
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "own.txt").write_text("of this host\n")
    environment = os.environ | {"BUILDYARD_DATA": str(tmp_path / "data"), "BUILDYARD_GIT_CERTIFICATES": str(git.authority)}
    spec = "version: 0.2\nphases: {build: {commands: [cat file.txt $CODEBUILD_SRC_DIR_host/own.txt $CODEBUILD_SRC_DIR_again/file.txt]}}\n"
    command = [BINARY, "run", public.url, "--source-version", "v1", "-s", f"host:{beside}", "-s", f"again:{public.url}", "--buildspec", spec]
    done = subprocess.run([str(part) for part in command], env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    assert "\ncontent 1\nof this host\ncontent 2\n" in done.stdout, done.stdout
    refused = [(["run", "https://u:p@localhost/x"], "user name"), (["run", "ext::sh -c id@x"], "URL"), (["run", ".", "--source-version", "v1"], "repositories"), (["run", ".", "-s", "x"], "ID:FOLDER"), (["run", ".", "-s", "x-y:."], "letters"), (["run", ".", "-s", "a:.", "-s", "a:."], "twice")]
    for arguments, why in refused:
        done = subprocess.run([str(BINARY), *arguments], env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 2 and why in done.stdout, done.stdout


# SA-042
def test_run_leaves_out_what_git_ignores_if_it_shall(project):
    project.write("buildspec.yml", "version: 0.2\nphases: {build: {commands: ['find . -path ./.git -prune -o -type f -print | sort | xargs']}}\n")
    for name in (".gitignore", "kept.txt", "new.txt", "some.log", "target/a/b.o", "deep/keep.txt", "deep/other.log"):
        project.write(name, "*.log\ntarget/\n")
    subprocess.run(["git", "-c", "init.defaultBranch=main", "init", "--quiet", project.folder], check=True)
    for flags, shown in (
        ([], "./.gitignore ./buildspec.yml ./deep/keep.txt ./deep/other.log ./kept.txt ./new.txt ./some.log ./target/a/b.o"),
        (["--respect-gitignore"], "./.gitignore ./buildspec.yml ./deep/keep.txt ./kept.txt ./new.txt"),
    ):
        assert project.run(*flags).ended(0).output == [shown]
    assert (project.folder / "target/a/b.o").exists() and (project.folder / "some.log").exists()


@pytest.fixture
def codecommit(git, tmp_path, monkeypatch):
    """CodeCommit, and a profile of AWS's that is let in there."""
    server = CodeCommit(tmp_path, git)
    keys = f"aws_access_key_id = {codecommit_.KEY_ID}\naws_secret_access_key = {codecommit_.SECRET}\naws_session_token = {codecommit_.TOKEN}\n"
    (tmp_path / "credentials").write_text(f"[pulls]\n{keys}[wrong]\n{keys.replace('+of', '+off')}")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    yield server
    server.stop()


# SA-001, SA-003, SA-055
def test_codecommit_is_spoken_to_as_awss_own_helper_does(codecommit, git, tmp_path, name):
    asked = f"protocol=https\nhost={codecommit.url.removeprefix('https://')}\npath=v1/repos/app\n"
    helper = ["aws", "--profile", "pulls", "--region", codecommit_.REGION, "codecommit", "credential-helper", "--ignore-host-check", "get"]
    said = subprocess.run(helper, input=asked, stdout=subprocess.PIPE, text=True, check=True).stdout
    told = dict(line.split("=", 1) for line in said.split())
    assert codecommit_.is_let_in(told["username"], told["password"], "localhost", "/v1/repos/app"), said

    app = codecommit.repository("app")
    commit = app.commit(file_txt="of codecommit\n")
    for profile, outcome_ in (("pulls", "SUCCEEDED"), ("wrong", "FAILED"), (None, "FAILED")):
        data = tmp_path / str(profile)
        data.mkdir(mode=0o700)
        text = f"[sources]\nallow = ['127.0.0.0/8', '::1']\ncertificates = '{git.authority}'\n"
        if profile:
            text += f"[sources.codecommit]\nprofile = '{profile}'\nendpoint = '{codecommit.url}'\nregion = '{codecommit_.REGION}'\n"
        (data / "buildyard.toml").write_text(text)
        server = Server(data)
        server.start()
        try:
            codebuild = Codebuild(server)
            kind = "CODECOMMIT" if profile else "GITHUB_ENTERPRISE"
            spec = "version: 0.2\nphases: {build: {commands: [cat file.txt, \"printf 'protocol=https\\nhost=localhost\\n' | GIT_TERMINAL_PROMPT=0 git credential fill || echo nothing\"]}}\n"
            codebuild.create_project(name, buildspec=spec, source={"type": kind, "location": app.url})
            build = codebuild.run(name, 120)
            assert build["buildStatus"] == outcome_, contexts(build)
            if profile == "pulls":
                log = succeeded(codebuild, build)
                assert build["resolvedSourceVersion"] == commit and "of codecommit" in log and "\nnothing\n" in log
                assert codecommit.used and not any(password in log for password in codecommit.used)
                with pytest.raises(codebuild.api.exceptions.InvalidInputException, match="CODECOMMIT"):
                    codebuild.start(name, sourceLocationOverride="https://localhost:1/v1/repos/app")
            else:
                assert contexts(build)["DOWNLOAD_SOURCE"][1].startswith("authentication required for primary source")
        finally:
            server.stop()
    environment = os.environ | {"BUILDYARD_DATA": str(tmp_path / "run"), "BUILDYARD_GIT_CERTIFICATES": str(git.authority), "AWS_PROFILE": "pulls"}
    environment |= {"AWS_ENDPOINT_URL_CODECOMMIT": codecommit.url, "AWS_REGION": codecommit_.REGION}
    command = [str(BINARY), "run", app.url, "--buildspec", "version: 0.2\nphases: {build: {commands: [cat file.txt]}}\n"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0 and "of codecommit" in done.stdout, done.stdout


@pytest.fixture
def neighbour(tmp_path):
    """A git server at an address of this host that is not its loopback."""
    if os.geteuid() != 0:
        pytest.skip("networks of their own take root")
    # Of this run of the tests alone.
    name, address = f"git{os.getpid() % 100000}", f"10.213.{100 + os.getpid() % 100}.1"
    ip = lambda text: subprocess.run(["ip", *text.split()], check=True)
    ip(f"link add {name} type veth peer name {name}p")
    try:
        ip(f"addr add {address}/30 dev {name}")
        ip(f"link set {name} up")
        (tmp_path / "git").mkdir()
        server = GitServer(tmp_path / "git", address)
        yield server.start()
        server.stop()
    finally:
        ip(f"link del {name}")


# SA-004, SA-006, EN-082, EN-084, EN-087
def test_what_comes_from_s3_lies_at_the_root_and_nothing_does_without_a_source(codebuild, tmp_path, name):
    bucket = f"bucket-{name[:30]}"
    codebuild.s3.create_bucket(Bucket=bucket)
    with zipfile.ZipFile(tmp_path / "source.zip", "w") as archive:
        archive.writestr("file.txt", "of the root")
        archive.writestr("deep/er/file.txt", "of the depth")
        executable = zipfile.ZipInfo("bin/run.sh")
        executable.external_attr = 0o100755 << 16
        archive.writestr(executable, "#!/bin/sh\necho has run\n")
    codebuild.s3.upload_file(str(tmp_path / "source.zip"), bucket, "in/source.zip")
    show = "version: 0.2\nphases: {build: {commands: ['echo at=$CODEBUILD_SRC_DIR', 'find . -type f | sort | xargs echo files', 'test ! -e bin/run.sh || bin/run.sh']}}\n"
    codebuild.create_project(name, buildspec=show, source={"type": "S3", "location": f"{bucket}/in/source.zip"})
    log = succeeded(codebuild, codebuild.run(name))
    assert re.search(r"^at=/codebuild/output/src\d{2,10}/src$", log, re.M), log
    assert "\nfiles ./bin/run.sh ./deep/er/file.txt ./file.txt\n" in log and "\nhas run\n" in log
    log = succeeded(codebuild, codebuild.run(name, sourceTypeOverride="NO_SOURCE"))
    assert re.search(r"^at=/codebuild/output/src\d{2,10}/src$", log, re.M) and "\nfiles\n" in log, log
    # What is not there, or nobody's to read, is told in the words of S3.
    build = codebuild.run(name, sourceLocationOverride=f"{bucket}/in/none.zip")
    assert contexts(build)["DOWNLOAD_SOURCE"][0] == "CLIENT_ERROR" and "object in/none.zip does not exist" in contexts(build)["DOWNLOAD_SOURCE"][1]
    build = codebuild.run(name, sourceLocationOverride="bucket-of-nobody/in/none.zip")
    assert "bucket bucket-of-nobody does not exist" in contexts(build)["DOWNLOAD_SOURCE"][1]


# SA-004, SA-042, EN-050, EN-082, EN-083
def test_run_builds_what_is_in_s3(codebuild, server, tmp_path, name):
    bucket = f"bucket-{name[:30]}"
    codebuild.s3.create_bucket(Bucket=bucket)
    show = "version: 0.2\nphases: {build: {commands: ['echo \"at=$CODEBUILD_SRC_DIR url=$CODEBUILD_SOURCE_REPO_URL\"', 'find . -type f | sort | xargs echo files', 'cat deep/grün.txt', 'cat $CODEBUILD_SRC_DIR_more/deep/grün.txt 2>/dev/null || true']}}\n"
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.writestr("buildspec.yml", show)
        archive.writestr("deep/grün.txt", "of the archive\n")
    codebuild.s3.upload_file(str(tmp_path / "app.zip"), bucket, "in/app.zip")
    codebuild.s3.put_object(Bucket=bucket, Key="in/folder/buildspec.yml", Body=show.encode())
    codebuild.s3.put_object(Bucket=bucket, Key="in/folder/deep/grün.txt", Body="of the folder\n".encode())
    codebuild.s3.put_object(Bucket=bucket, Key="in/folderless.txt", Body=b"")
    # More than a page of a listing, put there as an operator may.
    many = server.data / "s3" / bucket / "many"
    many.mkdir()
    for number in range(1100):
        (many / f"{number:04}").write_bytes(b"")

    def run(*arguments, **variables):
        environment = server.environment() | {"BUILDYARD_DATA": str(tmp_path / "data")} | variables
        command = [str(BINARY), "run", *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert list((tmp_path / "data/run").iterdir()) == []
        return done.returncode, done.stdout

    archive, folder = f"s3://{bucket}/in/app.zip", f"s3://{bucket}/in/folder/"
    code, said = run(archive)
    assert code == 0 and "\nfiles ./buildspec.yml ./deep/grün.txt\n" in said and "\nof the archive\n" in said, said
    assert re.search(rf"^at=/codebuild/output/src\d+/src url={archive}$", said, re.M) and "app SUCCEEDED" in said
    code, said = run(folder, "-s", f"more:{archive}")
    assert code == 0 and "of the folder\n" in said and "of the archive\n" in said and f"src/s3/00 url={folder}" in said, said
    code, said = run(f"s3://{bucket}/many/", "--buildspec", "version: 0.2\nphases: {build: {commands: ['echo files=$(ls | wc -l)']}}\n")
    assert code == 0 and "files=1100" in said, said
    for arguments, variables, why in (
        ([f"s3://{bucket}/in/none.zip"], {}, f"cannot fetch s3://{bucket}/in/none.zip: NoSuchKey"),
        ([f"s3://{bucket}/none/"], {}, f"cannot fetch s3://{bucket}/none/: there is nothing below it"),
        (["s3://bucket-of-nobody/x.zip"], {}, "NoSuchBucket"),
        ([archive], {"AWS_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch"),
        ([archive], {"AWS_ACCESS_KEY_ID": "", "HOME": str(tmp_path)}, "there are no AWS credentials"),
        ([archive], {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, "http://127.0.0.1:1/"),
        (["s3://bucket"], {}, "it must be s3://BUCKET/KEY.zip"),
        ([folder, "--source-version", "1"], {}, "a folder has no versions"),
    ):
        code, said = run(*arguments, **variables)
        assert code == 2 and why in said, (arguments, said)


# Reliability: E6.
def test_addresses_are_looked_at_once_more_when_they_are_connected_to(neighbour, tmp_path, name):
    repository = neighbour.repository("public/app.git")
    repository.commit(file_txt="fine\n")

    def serve(number, allow, *more):
        data = tmp_path / f"data{number}"
        data.mkdir(mode=0o700)
        settings = [f"allow = {allow}", f"certificates = '{neighbour.authority}'", *more]
        (data / "buildyard.toml").write_text("\n".join(["[sources]", *settings]))
        server = Server(data)
        server.start()
        return server

    def build(server):
        before = len(neighbour.requests())
        codebuild = Codebuild(server)
        if not codebuild.api.batch_get_projects(names=[name])["projects"]:
            codebuild.create_project(name, buildspec="version: 0.2\nphases: {build: {commands: [cat file.txt]}}\n", source=source(repository))
        build = codebuild.run(name, 120)
        return build, {line.split()[0].rsplit(".", 2)[0] for line in neighbour.requests()[before:]}

    own = serve(1, [neighbour.address], "network = 'own'")
    hosts = serve(2, [neighbour.address], "network = 'host'")
    unsaid = serve(3, [neighbour.address])
    try:
        for server, came_from in ((own, {"198.18"}), (unsaid, {"198.18"}), (hosts, {"10.213"})):
            succeeded(Codebuild(server), build(server)[0])
            assert build(server)[1] <= ({"198.18", "198.19"} if came_from == {"198.18"} else came_from)
        # Nobody may be connected to there any more, whatever is known of the name and its addresses by now.
        serve(4, ["10.9.9.9"]).stop()
        refused, came = build(own)
        assert refused["buildStatus"] == "FAILED" and came == set()
        assert contexts(refused)["DOWNLOAD_SOURCE"][1].startswith("Git clone failed: "), contexts(refused)
        succeeded(Codebuild(hosts), build(hosts)[0])
    finally:
        for server in (own, hosts, unsaid):
            server.stop()
    refused = tmp_path / "refused"
    refused.mkdir(mode=0o700)
    (refused / "buildyard.toml").write_text("[sources]\nallow = ['127.0.0.1']\nnetwork = 'own'\n")
    done = subprocess.run([str(BINARY), "serve", "--listen", "127.0.0.1:0", "--data", str(refused)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert done.returncode != 0 and "127.0.0.1 of sources.allow is reached by the host's network only" in done.stdout


# SA-096, SA-094
def test_a_repository_is_fetched_anew_only_as_far_as_it_changed(codebuild, git, server, name):
    repository = git.repository("public/large.git")
    for number in range(3):
        (repository.work / f"large-{number}").write_bytes(os.urandom(1 << 20))
    first = repository.commit(file_txt="first\n")
    repository.commit(branch="goes", file_txt="branch\n")
    repository.git("reset", "--quiet", "--hard", first)
    spec = "version: 0.2\nphases: {build: {commands: [cat file.txt, 'git status --porcelain', 'git branch -r | xargs', 'stat -c %s large-2']}}\n"
    cache = {"type": "LOCAL", "modes": ["LOCAL_SOURCE_CACHE"]}
    codebuild.create_project(name, buildspec=spec, source=source(repository), cache=cache)

    def fetched(commit, text, branches):
        """Bytes that the server sent for a build."""
        before = len(git.requests())
        build = codebuild.run(name, 120)
        log = succeeded(codebuild, build)
        assert build["resolvedSourceVersion"] == commit
        assert f"\n{text}\n" in log and f"\n{branches}\n" in log and "\n1048576\n" in log, log
        sent = [int(re.search(r'" 200 (\d+)', line)[1]) for line in git.requests()[before:] if "POST" in line]
        return sum(sent)

    assert fetched(first, "first", "origin/goes origin/main") > 3 << 20
    second = repository.commit(file_txt="second\n")
    repository.git("push", "--quiet", repository.bare, ":refs/heads/goes")
    assert fetched(second, "second", "origin/main") < 100_000
    assert fetched(second, "second", "origin/main") < 100_000
    codebuild.api.invalidate_project_cache(projectName=name)
    assert fetched(second, "second", "origin/main") > 3 << 20
    # What is kept was written once, and then what was new.
    kept = [path for path in (server.data / "repositories").rglob("*") if path.is_file()]
    (added,) = [path for path in kept if path.name.endswith(".1.tar")]
    assert len(kept) == 3 and added.stat().st_size < 200_000
    assert all(path.stat().st_size > 3 << 20 for path in kept if path != added)
