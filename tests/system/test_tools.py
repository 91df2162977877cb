"""Tools that manage CodeBuild projects of AWS, as they are published: Ansible.

`./test` installs them below target/clients; BUILDYARD_TEST_CLIENTS names another place.
"""

import os
import subprocess
from pathlib import Path

import pytest

from local import REPOSITORY

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
