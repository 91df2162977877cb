"""Tools that manage and look at CodeBuild projects of AWS, as they are published: Ansible, awslogs, Cloud Custodian, Prowler, Terraform.

`./test` installs them below target/clients; BUILDYARD_TEST_CLIENTS names another place. Terraform's AWS
provider is in no registry of packages: its test is there if `terraform` is, and BUILDYARD_TEST_TERRAFORM names a folder that mirrors the provider.
"""

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from local import REPOSITORY, spec

CLIENTS = Path(os.environ.get("BUILDYARD_TEST_CLIENTS") or REPOSITORY / "target/clients")
FILES = REPOSITORY / "tests/clients"
TERRAFORM_MIRROR = os.environ.get("BUILDYARD_TEST_TERRAFORM")


@pytest.fixture
def tool(server, tmp_path):
    """Runs an installed tool in an empty home; returns what it printed."""

    def tool(name, *arguments, **more):
        assert (CLIENTS / "bin" / name).exists(), f"{name} is not installed in {CLIENTS}; ./test does that"
        variables = {"HOME": str(tmp_path), "ANSIBLE_COLLECTIONS_PATH": str(CLIENTS), "NO_COLOR": "1"}
        done = subprocess.run(
            [CLIENTS / "bin" / name, *map(str, arguments)],
            env=server.environment() | variables | more,
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


# SA-119
def test_awslogs_lists_and_shows_what_builds_wrote(tool, codebuild, server, name):
    codebuild.create_project(name, json.dumps(spec(build=["echo first; echo second"])))
    logs = codebuild.run(name)["logs"]
    at = ("--aws-endpoint-url", server.endpoint)
    assert logs["groupName"] in tool("awslogs", "groups", *at).splitlines()
    assert tool("awslogs", "streams", logs["groupName"], *at).splitlines() == [logs["streamName"]]
    shown = tool("awslogs", "get", logs["groupName"], "ALL", "-G", "-S", "--filter-pattern=-Container", *at)
    assert shown.split() == ["first", "second"]


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


# AP-062..064, AP-073..075
def test_prowler_judges_projects_by_what_they_are(tool, codebuild, tmp_path):
    inline = json.dumps(spec(build=["true"]))
    silent = {"cloudWatchLogs": {"status": "DISABLED"}}
    codebuild.create_project("prowler-silent", inline, logsConfig=silent)
    codebuild.create_project("prowler-told", inline)
    codebuild.run("prowler-told")
    arguments = ["--excluded-checks", "codebuild_project_no_secrets_in_variables", "--ignore-exit-code-3", "--no-banner"]
    where = ["--region", codebuild.api.meta.region_name, "-M", "csv", "-o", tmp_path / "found"]
    said = tool(
        "python", FILES / "prowler.py", "aws", "--services", "codebuild", *arguments, *where,
        PYTHONPATH=str(CLIENTS / "prowler"),
    )  # fmt: skip
    (found,) = (tmp_path / "found").glob("*.csv")
    findings = csv.DictReader(found.open(), delimiter=";")
    verdicts = {(finding["CHECK_ID"], finding["RESOURCE_NAME"]): finding["STATUS"] for finding in findings}
    assert "Error" not in said, said
    logged = "codebuild_project_logging_enabled"
    assert (verdicts[logged, "prowler-silent"], verdicts[logged, "prowler-told"]) == ("FAIL", "PASS")
    built = "codebuild_project_older_90_days"
    assert (verdicts[built, "prowler-silent"], verdicts[built, "prowler-told"]) == ("FAIL", "PASS")
    for name in ["prowler-silent", "prowler-told"]:
        codebuild.api.delete_project(name=name)


if shutil.which("terraform") and TERRAFORM_MIRROR:

    # AP-053, AP-054, AP-060..063, AP-110..115
    def test_terraform_sees_no_change_where_nothing_has_changed(server, codebuild, tmp_path):
        shutil.copytree(FILES / "terraform", tmp_path, dirs_exist_ok=True)
        mirror = f'filesystem_mirror {{ path = "{TERRAFORM_MIRROR}" }}'
        (tmp_path / "terraformrc").write_text(f"provider_installation {{\n  {mirror}\n}}\n")
        variables = {"TF_CLI_CONFIG_FILE": str(tmp_path / "terraformrc"), "TF_VAR_endpoint": server.endpoint}

        def terraform(*arguments, **more):
            done = subprocess.run(
                ["terraform", *arguments, "-no-color"],
                env=server.environment() | variables | more,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        another = {"TF_VAR_description": "Another", "TF_VAR_changed": "true"}
        terraform("init", "-input=false")
        assert "9 added, 0 changed, 0 destroyed" in terraform("apply", "-auto-approve")
        assert "No changes." in terraform("plan", "-detailed-exitcode")
        terraform("apply", "-refresh-only", "-auto-approve")
        assert "No changes." in terraform("plan", "-refresh-only", "-detailed-exitcode")
        assert "0 added, 6 changed, 0 destroyed" in terraform("apply", "-auto-approve", **another)
        assert "No changes." in terraform("plan", "-detailed-exitcode", **another)
        assert "0 added, 6 changed, 0 destroyed" in terraform("apply", "-auto-approve")
        assert "No changes." in terraform("plan", "-detailed-exitcode")
        assert "9 destroyed" in terraform("destroy", "-auto-approve")
        names = ["terraform-small", "terraform-large", "terraform-batch", "terraform-pipeline", "terraform-public"]
        assert codebuild.api.batch_get_projects(names=names)["projects"] == []
