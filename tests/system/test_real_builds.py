"""Real public packages, each built in an image that `examples/images/build` makes, which reads its dependencies from the registries by
itself, through the network `egress`. Artifacts are held against those of the same commands in the same image without Buildyard.

One small image and the Python package by default; all three with `--real-builds IMAGE`, an archive of `--with python,nodejs,rust`.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from local import BINARY, REPOSITORY, copy_tree, spec, zipped
from packages import fetch, unpack
from served import ENVIRONMENT, Codebuild, outcome

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
# The host's own certificates go along, for those whose networks have some of their own.
TRUST = [
    f"export {name}=$PWD/host-certificates.pem"
    for name in ["PIP_CERT", "CARGO_HTTP_CAINFO", "NODE_EXTRA_CA_CERTS", "npm_config_cafile"]
]
# Always at the same place, since compilers write that into what they make.
BEGIN = ["SOURCE=$PWD", "export SOURCE_DATE_EPOCH=1700000000", *TRUST, "cp -r . /tmp/work && cd /tmp/work"]

# By language: the commands that build the package and test it, and what is kept of it.
BUILDS = {
    "python": (
        [
            "python3 -m venv /tmp/env && . /tmp/env/bin/activate",
            "pip install --quiet flit-core==3.12.0 pytest==8.4.2 freezegun==1.5.5",
            "pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .",
            "pip install --quiet dist/*.whl && pytest -q -p no:cacheprovider tests",
            "cp -r dist $SOURCE/made",
        ],
        "itsdangerous-2.2.0-py3-none-any.whl",
    ),
    "nodejs": (
        [
            "npm install --silent --no-save --no-audit --no-fund --ignore-scripts tape@5.7.5",
            "./node_modules/.bin/tape 'test/*.js'",
            "mkdir $SOURCE/made && npm pack --silent --ignore-scripts --pack-destination $SOURCE/made",
        ],
        "minimist-1.2.8.tgz",
    ),
    "rust": (
        [
            "export CARGO_HOME=/tmp/cargo",
            "cargo build --quiet --locked",
            "./target/debug/hexyl --plain Cargo.toml > /dev/null",
            "mkdir $SOURCE/made && cp target/debug/hexyl $SOURCE/made/",
        ],
        "hexyl",
    ),
}


def python_source(folder):
    pip = ["python3", "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    fetch(*pip, "--dest", folder / "got", "itsdangerous==2.2.0", cwd=folder)
    (archive,) = (folder / "got").iterdir()
    unpack(archive, folder / "source")


def nodejs_source(folder):
    (archive,) = fetch("npm", "pack", "--silent", "minimist@1.2.8", cwd=folder).split()
    unpack(folder / archive, folder / "source")


def rust_source(folder):
    (folder / "fetcher/src").mkdir(parents=True)
    (folder / "fetcher/src/lib.rs").touch()
    manifest = '[package]\nname = "fetcher"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\nhexyl = "=0.16.0"\n'
    (folder / "fetcher/Cargo.toml").write_text(manifest)
    fetch("cargo", "vendor", "vendor", cwd=folder / "fetcher")
    copy_tree(folder / "fetcher/vendor/hexyl", folder / "source")


SOURCES = {"python": python_source, "nodejs": nodejs_source, "rust": rust_source}


def pytest_generate_tests(metafunc):
    if "language" in metafunc.fixturenames:
        every = metafunc.config.getoption("--real-builds")
        metafunc.parametrize("language", list(BUILDS) if every else ["python"])


@pytest.fixture(scope="module")
def image(request, tmp_path_factory):
    """The archive that the example script makes."""
    if os.geteuid() != 0:
        pytest.skip("this network takes root")
    given = request.config.getoption("--real-builds")
    if given:
        return Path(given).resolve()
    archive = tmp_path_factory.mktemp("image") / "small.tar"
    build = [REPOSITORY / "examples/images/build", "--small", "--with", "python", "--add", "python3-venv", archive]
    fetch(*build, cwd=archive.parent)
    return archive


def bare(image_roots, source, commands, folder):
    """What the same commands make in the same root file system, with nothing but chroot around them."""
    for name in ["upper", "work", "root"]:
        (folder / name).mkdir(parents=True)
    layers = f"lowerdir={image_roots},upperdir={folder}/upper,workdir={folder}/work,userxattr"
    script = "\n".join(["set -e", "cd /src", *commands])
    around = f"""set -e
mount -t overlay overlay -o {layers} {folder}/root
mkdir -p {folder}/root/src {folder}/root/dev
mount --bind {source} {folder}/root/src
mount --rbind /dev {folder}/root/dev
mount -t proc proc {folder}/root/proc
cp --dereference /etc/resolv.conf {folder}/root/etc/resolv.conf
exec env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot {folder}/root bash -c "$0"
"""
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "bash", "-c", around, script], capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return {path.name: digest(path.read_bytes()) for path in (source / "made").iterdir()}


def digest(content):
    return hashlib.sha256(content).hexdigest()


# EN-020, BS-090
def test_a_package_is_built_in_the_example_image_as_without_buildyard(language, image, make_server, tmp_path):
    SOURCES[language](tmp_path)
    source, (commands, made) = tmp_path / "source", BUILDS[language]
    shutil.copy(CERTIFICATES, source / "host-certificates.pem")
    install = {"runtime-versions": {language: "latest"}}
    buildspec = spec(install=install, build=[*BEGIN, *commands])
    buildspec["artifacts"] = {"files": ["*"], "base-directory": "made"}
    (source / "buildspec.yml").write_text(json.dumps(buildspec))

    config = tmp_path / "buildyard.toml"
    config.write_text(f'network = "egress"\n[images]\n"aws/codebuild/*" = "{image}"\n')
    server = make_server("--config", str(config))
    imported = [BINARY, "image", "import", image, "--data", server.data]
    fetch(*imported, cwd=tmp_path)
    codebuild = Codebuild(server)
    codebuild.s3.create_bucket(Bucket="real")
    codebuild.s3.put_object(Bucket="real", Key="source.zip", Body=zipped(source, tmp_path / "source.zip").read_bytes())
    codebuild.create_project(
        "real",
        source={"type": "S3", "location": "real/source.zip"},
        artifacts={"type": "S3", "location": "real", "packaging": "ZIP", "name": "made.zip"},
        environment=ENVIRONMENT | {"image": "aws/codebuild/standard:7.0"},
    )
    build = codebuild.run("real", seconds=600)
    log = codebuild.log(build)
    assert outcome(build)[0] == "SUCCEEDED", log[-4000:]
    assert f"Selecting '{language}' runtime version 'latest'" in log and "of Debian ..." in log
    (key,) = [
        one["Key"] for one in codebuild.s3.list_objects_v2(Bucket="real")["Contents"] if one["Key"].endswith("made.zip")
    ]
    archive = zipfile.ZipFile(io.BytesIO(codebuild.s3.get_object(Bucket="real", Key=key)["Body"].read()))
    built = {name: digest(archive.read(name)) for name in archive.namelist()}
    listed = json.loads(subprocess.run([BINARY, "image", "ls", "--json", "--data", server.data], capture_output=True).stdout)
    assert built == bare(":".join(listed[0]["rootfs"]), source, [*BEGIN, *commands], tmp_path / "bare")
    assert set(built) == {made}
