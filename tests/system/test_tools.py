"""Tools that manage and look at CodeBuild projects of AWS: Ansible and Cloud Custodian, as they are published.

`./test` installs them below target/clients; BUILDYARD_TEST_CLIENTS names another place.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from local import REPOSITORY, spec

CLIENTS = Path(os.environ.get("BUILDYARD_TEST_CLIENTS") or REPOSITORY / "target/clients")
FILES = REPOSITORY / "tests/clients"


@pytest.fixture
def tool(server, tmp_path):
    """Runs an installed tool in an empty home; returns what it printed."""

    def tool(name, *arguments):
        assert (CLIENTS / "bin" / name).exists(), f"{name} is not installed in {CLIENTS}; ./test does that"
        variables = {"HOME": str(tmp_path), "ANSIBLE_COLLECTIONS_PATH": str(CLIENTS), "NO_COLOR": "1"}
        done = subprocess.run(
            [CLIENTS / "bin" / name, *map(str, arguments)],
            env=server.environment() | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return tool


# AP-053, AP-054, AP-060..063
def test_ansible_sees_no_change_where_nothing_has_changed(tool):
    python = f"ansible_python_interpreter={CLIENTS}/bin/python"
    said = tool("ansible-playbook", "-i", "localhost,", "-c", "local", "-e", python, FILES / "codebuild_project.yml")
    assert "All assertions passed" in said


# AP-062..064, AP-111
def test_cloud_custodian_finds_projects_and_credentials(tool, codebuild, tmp_path):
    inline = json.dumps(spec(build=["true"]))
    codebuild.create_project("custodian-owned", inline, tags=[{"key": "owner", "value": "nobody"}])
    codebuild.create_project("custodian-free", inline)
    credentials = codebuild.api.import_source_credentials(
        serverType="GITHUB", authType="PERSONAL_ACCESS_TOKEN", token="secret"
    )
    tool("custodian", "run", "--output-dir", "found", "--region", codebuild.api.meta.region_name, FILES / "custodian.yml")
    found = {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "found").glob("*/resources.json")}
    names = {policy: {one["name"] for one in ones} for policy, ones in found.items() if policy != "credentials"}
    assert names["projects"] >= {"custodian-owned", "custodian-free"}
    assert names["without-owner"] >= {"custodian-free"} and "custodian-owned" not in names["without-owner"]
    assert [one["arn"] for one in found["credentials"]] == [credentials["arn"]]
    assert names["deleted"] == {"custodian-owned"}
    assert codebuild.api.batch_get_projects(names=["custodian-owned"])["projects"] == []
    codebuild.api.delete_project(name="custodian-free")
    codebuild.api.delete_source_credentials(arn=credentials["arn"])
