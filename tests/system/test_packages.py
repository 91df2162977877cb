"""Real public packages, fetched through their registries' own clients and built by `buildyard run`.

Everything a build needs is fetched before it: the builds themselves run without a network.
"""

import os
import shutil
import subprocess
import sys

import pytest

from local import copy_tree, files, spec
from packages import fetch, unpack


@pytest.fixture
def crate(tmp_path):
    """A crate's source archive, unpacked by cargo, with its dependencies beside it as its lock file names them."""
    fetcher = tmp_path / "fetcher"
    (fetcher / "src").mkdir(parents=True)
    (fetcher / "src/lib.rs").touch()
    (fetcher / "Cargo.toml").write_text(
        '[package]\nname = "fetcher"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\nhexyl = "=0.16.0"\n'
    )
    fetch("cargo", "vendor", "vendor", cwd=fetcher)
    source = copy_tree(fetcher / "vendor/hexyl", tmp_path / "hexyl")
    settings = fetch("cargo", "vendor", "--locked", "vendor", cwd=source)
    (source / ".cargo").mkdir(exist_ok=True)
    (source / ".cargo/config.toml").write_text(settings)
    return source


def test_a_crate_from_crates_io_is_built_with_the_hosts_cargo(project, crate):
    shutil.rmtree(project.folder)
    copy_tree(crate, project.folder)
    project.buildspec(
        spec(
            pre_build=["cargo --version"],
            build=["cargo build --offline --locked --quiet", "./target/debug/hexyl --plain Cargo.toml | tee shown"],
        )
        | {"artifacts": {"files": ["target/debug/hexyl", "shown"], "discard-paths": "yes"}}
    )
    ran = project.run("--network", "none", timeout=300).ended(0)
    assert ran.output[0].startswith("cargo 1.")
    assert files(project.artifacts) == ["hexyl", "shown"]
    built = subprocess.run([project.artifacts / "hexyl", "--version"], capture_output=True, text=True, check=True)
    assert built.stdout.strip() == "hexyl 0.16.0"
    assert not (project.folder / "target").exists(), "the source folder is not changed"


@pytest.fixture
def sdist(tmp_path):
    """A source distribution with a C extension and tests, and the wheels that its build and its tests need."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--dest",
        tmp_path / "got",
    ]
    fetch(*pip, "--no-deps", "--no-binary", "markupsafe", "markupsafe==3.0.2", cwd=tmp_path)
    fetch(*pip[:-1], tmp_path / "wheels", "pytest<9", "setuptools", "wheel", cwd=tmp_path)
    (archive,) = (tmp_path / "got").iterdir()
    unpack(archive, tmp_path / "source")
    copy_tree(tmp_path / "wheels", tmp_path / "source/wheels")
    return tmp_path / "source"


def test_a_package_from_pypi_is_built_and_tested(project, sdist):
    shutil.rmtree(project.folder)
    copy_tree(sdist, project.folder)
    pip = "pip install --quiet --disable-pip-version-check --no-index --find-links wheels"
    project.buildspec(
        spec(
            install=["python3 -m venv /tmp/env", ". /tmp/env/bin/activate", f"{pip} pytest setuptools wheel"],
            build=[f"{pip} --no-build-isolation .", "pip wheel -q --no-deps --no-build-isolation -w dist ."],
            post_build=["pytest -q -p no:cacheprovider tests"],
        )
        | {"artifacts": {"files": ["*.whl"], "base-directory": "dist"}}
    )
    path = os.path.dirname(os.path.realpath(sys.executable)) + ":" + os.environ["PATH"]
    ran = project.run("--network", "none", env={"PATH": path}, timeout=200).ended(0)
    assert any("passed" in line and "failed" not in line for line in ran.output), ran.out[-2000:]
    (wheel,) = files(project.artifacts)
    assert wheel.lower().startswith("markupsafe-3.0.2-") and wheel.endswith(".whl")


@pytest.fixture
def npm_package(tmp_path):
    """A package from npm with its own tests, and the test tool they need."""
    (archive,) = fetch("npm", "pack", "--silent", "minimist@1.2.8", cwd=tmp_path).split()
    unpack(tmp_path / archive, tmp_path / "minimist")
    install = ["npm", "install", "--silent", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]
    (tmp_path / "tools").mkdir()
    fetch(*install, tmp_path / "tools", "tape@5.7.5", cwd=tmp_path / "tools")
    copy_tree(tmp_path / "tools/node_modules", tmp_path / "minimist/node_modules")
    return tmp_path / "minimist"


def test_a_package_from_npm_is_tested_and_packed(project, npm_package):
    shutil.rmtree(project.folder)
    copy_tree(npm_package, project.folder)
    project.buildspec(
        spec(
            install=["node --version", "export PATH=$PWD/node_modules/.bin:$PATH"],
            build=["tape 'test/*.js'"],
            post_build=["npm pack --silent --ignore-scripts"],
        )
        | {"artifacts": {"files": ["*.tgz"]}}
    )
    ran = project.run("--network", "none", timeout=120).ended(0)
    assert "# ok" in ran.output
    assert files(project.artifacts) == ["minimist-1.2.8.tgz"]
