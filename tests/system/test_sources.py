"""Sources from git servers and from S3: what is fetched, where it lies, and what of it a build can see."""

import pytest

from gitserver import PASSWORD, GitServer
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
def git(tmp_path_factory):
    server = GitServer(tmp_path_factory.mktemp("git"))
    yield server.start()
    server.stop()


@pytest.fixture(scope="module")
def server(git, tmp_path_factory):
    """A server that may fetch from this host, and trusts the git server's authority."""
    data = tmp_path_factory.mktemp("server") / "data"
    data.mkdir(mode=0o700)
    (data / "buildyard.toml").write_text(f"[sources]\nallow = ['127.0.0.0/8', '::1']\ncertificates = '{git.authority}'\n")
    server = Server(data)
    server.start()
    yield server
    server.stop()


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
def test_documented_failures_are_told_in_codebuilds_words(codebuild, git, public, make_server, name):
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


HUNT = r'''
import glob, os, re, subprocess
NEEDLE = "REVERSED"[::-1].encode()
LIMIT = 64 << 20

def read(*patterns):
    for pattern in patterns:
        for path in glob.glob(pattern, recursive=True, include_hidden=True):
            if os.path.isfile(path):
                try:
                    with open(path, "rb") as file:
                        yield path, file.read(LIMIT)
                except OSError:
                    pass

def memory():
    """What this shell's parents and every other process have in memory."""
    for maps in glob.glob("/proc/[0-9]*/maps"):
        try:
            ranges = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) r.* (?:\[heap\]|\[stack\]|/memfd.*)$", open(maps).read(), re.M)
            with open(maps.replace("maps", "mem"), "rb") as file:
                for begin, end in ranges:
                    file.seek(int(begin, 16))
                    yield f"{maps} {begin}", file.read(min(int(end, 16) - int(begin, 16), LIMIT))
        except OSError:
            pass

def said(*command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=20, **more)
    yield " ".join(command), done.stdout

def filled():
    asked = f"protocol=https\nhost={os.environ['HOST']}\n\n".encode()
    done = subprocess.run(["git", "credential", "fill"], input=asked, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20,
                          env=os.environ | {"GIT_TERMINAL_PROMPT": "0"})
    yield "git credential fill", done.stdout

src = os.environ["CODEBUILD_SRC_DIR"]
PLACES = {
    "own environment": lambda: [("environ", repr(os.environ).encode())],
    "environments": lambda: read("/proc/[0-9]*/environ"),
    "command lines": lambda: read("/proc/[0-9]*/cmdline"),
    "descriptors": lambda: read("/proc/[0-9]*/fd/*"),
    "memory": memory,
    "remote": lambda: said("git", "remote", "-v", cwd=src),
    "configuration": lambda: said("git", "config", "--list", "--show-origin", cwd=src),
    "filled credential": filled,
    "reflog": lambda: said("git", "reflog", "--all", cwd=src),
    "notes": lambda: said("git", "for-each-ref", "--format=%(refname) %(contents)", cwd=src),
    ".git": lambda: read(src + "/.git/**"),
    "hooks": lambda: read(src + "/.git/hooks/**"),
    "work tree": lambda: read(src + "/**"),
    "other sources": lambda: read("/codebuild/output/**"),
    "readonly": lambda: read("/codebuild/readonly/**"),
    "/codebuild": lambda: read("/codebuild/**"),
    "home": lambda: read("/root/**", "/home/**", os.path.expanduser("~/**")),
    "netrc": lambda: read("/root/.netrc", "/root/.git-credentials", "/root/.config/git/*", "/etc/gitconfig"),
    "ssh": lambda: read("/root/.ssh/*"),
    "temporary files": lambda: read("/tmp/**", "/var/tmp/**"),
    "run": lambda: read("/run/**", "/var/run/**"),
    "shared memory": lambda: read("/dev/shm/**", "/dev/mqueue/**"),
    "fetch folder": lambda: read("/fetch/**"),
    "settings": lambda: read("/etc/**"),
    "keys": lambda: read("/proc/keys", "/proc/key-users"),
    "mounts": lambda: read("/proc/self/mountinfo", "/proc/mounts"),
    "logs": lambda: read("/var/log/**"),
    "data folder": lambda: read("/var/lib/buildyard/**", "/srv/**", "/mnt/**"),
}
for place, look in PLACES.items():
    for where, content in look():
        if NEEDLE in content:
            print("FOUND", place, where)
print("looked at", len(PLACES), "places")
'''


# SA-050, SA-053
def test_a_private_repository_is_fetched_and_its_token_found_nowhere(codebuild, git, server, name):
    private = git.repository("private/team/app.git")
    # The hunter must not find itself.
    commit = private.commit(file_txt="secret content\n", hunt_py=HUNT.replace("REVERSED", PASSWORD[::-1]))
    codebuild.api.import_source_credentials(serverType="GITHUB_ENTERPRISE", authType="PERSONAL_ACCESS_TOKEN", token=PASSWORD)
    try:
        environment = {"type": "LINUX_CONTAINER", "image": "aws/codebuild/standard:7.0", "computeType": "BUILD_GENERAL1_SMALL"}
        environment["environmentVariables"] = [{"name": "HOST", "value": f"localhost:{git.port}"}]
        spec = "version: 0.2\nphases: {build: {commands: [cat file.txt, python3 hunt.py]}}\n"
        codebuild.create_project(name, buildspec=spec, source=source(private), environment=environment)
        build = codebuild.run(name, 120)
    finally:
        (held,) = codebuild.api.list_source_credentials()["sourceCredentialsInfos"]
        codebuild.api.delete_source_credentials(arn=held["arn"])
    log = succeeded(codebuild, build)
    assert build["resolvedSourceVersion"] == commit and "secret content" in log
    assert "looked at 28 places" in log and "FOUND" not in log and PASSWORD not in log, log
    kept = [path for path in server.data.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert kept == []
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
