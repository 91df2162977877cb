"""The official GitHub action `aws-codebuild-run-build`, unmodified, from node against the server.

It is in no registry of packages: these tests are there if BUILDYARD_TEST_ACTION names a checkout of it, with its `dist/index.js`.
"""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from host import wait_until
from local import spec
from served import Codebuild

ACTION = os.environ.get("BUILDYARD_TEST_ACTION")

if ACTION:

    @pytest.fixture(scope="module")
    def server(fetching_server):
        return fetching_server

    @pytest.fixture
    def action(server, tmp_path):
        """Starts the action as a runner does: inputs, event and output are variables and files."""
        started = []

        def action(project, **inputs):
            given = {"project-name": project, "update-interval": "0"} | {name.replace("_", "-"): text for name, text in inputs.items()}
            (tmp_path / "output").touch()
            (tmp_path / "event.json").write_text("{}")
            variables = {f"INPUT_{name.upper()}": text for name, text in given.items()} | {
                "GITHUB_ACTIONS": "true",
                "GITHUB_REPOSITORY": "octo/app",
                "GITHUB_SHA": "0123456789abcdef0123456789abcdef01234567",
                "GITHUB_EVENT_NAME": "push",
                "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
                "GITHUB_OUTPUT": str(tmp_path / "output"),
            }
            program = Path(ACTION) / "dist/index.js"
            process = subprocess.Popen(
                ["node", program], env=server.environment() | variables, cwd=tmp_path, text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            started.append(process)
            return process

        yield action
        for process in started:
            process.kill()
            process.wait()

    def ended(process):
        """The exit code and what was printed between the action's first line and its last."""
        printed, _ = process.communicate(timeout=120)
        return process.returncode, printed

    def build_of(codebuild, tmp_path):
        """The build that the action says it made."""
        _, identifier, _ = (tmp_path / "output").read_text().splitlines()
        return codebuild.build(identifier)

    def is_within(log, printed):
        """All lines of a build's log, one after the other."""
        lines = lambda text: [line.rstrip() for line in text.splitlines() if line.strip()]
        return "\n".join(lines(log)) in "\n".join(lines(printed))

    # AP-070, AP-073..078, SA-113, SA-118, SA-121, SA-122
    def test_the_action_prints_the_log_and_succeeds_with_the_build(action, codebuild, tmp_path, name):
        commands = ["echo of $GITHUB_REPOSITORY at $GITHUB_SHA", "for n in $(seq 3000); do echo line $n; done", "printf 'no end of line'"]
        codebuild.create_project(name, json.dumps(spec(build=commands)))
        code, printed = ended(action(name, source_type_override="NO_SOURCE", source_location_override="none"))
        build = build_of(codebuild, tmp_path)
        assert (code, build["buildStatus"]) == (0, "SUCCEEDED"), printed
        assert is_within(codebuild.log(build), printed)
        assert "of octo/app at 0123456789abcdef0123456789abcdef01234567" in printed.splitlines()

    # SA-023, SA-118
    def test_the_action_builds_the_source_it_names(action, codebuild, git, tmp_path, name):
        repository = git.repository("public/action.git")
        commit = repository.commit(buildspec_yml=json.dumps(spec(build=["echo at=$(git rev-parse HEAD)"])))
        codebuild.create_project(name, json.dumps(spec(build=["exit 1"])))
        code, printed = ended(
            action(
                name,
                source_type_override="GITHUB_ENTERPRISE",
                source_location_override=repository.url,
                buildspec_override="buildspec.yml",
            )
        )
        assert code == 0, printed
        assert f"at={commit}" in printed.splitlines()
        assert build_of(codebuild, tmp_path)["resolvedSourceVersion"] == commit

    # SA-118, LC-020
    def test_the_action_fails_with_the_build(action, codebuild, tmp_path, name):
        codebuild.create_project(name, json.dumps(spec(build=["echo before the end", "exit 7"])))
        code, printed = ended(action(name, disable_source_override="true"))
        build = build_of(codebuild, tmp_path)
        assert (code, build["buildStatus"]) == (1, "FAILED"), printed
        assert is_within(codebuild.log(build), printed)
        assert "::error::Build status: FAILED" in printed

    # SA-118, AP-076
    def test_the_action_stops_the_build_when_it_is_interrupted(action, codebuild, tmp_path, name):
        codebuild.create_project(name, json.dumps(spec(build=["sleep 100000"])))
        process = action(name, disable_source_override="true", stop_on_signals="SIGINT")

        def runs():
            ids = codebuild.api.list_builds_for_project(projectName=name)["ids"]
            return ids and codebuild.build(ids[0])["currentPhase"] == "BUILD"

        wait_until(runs, "the build runs", 60)
        process.send_signal(signal.SIGINT)
        code, printed = ended(process)
        build = build_of(codebuild, tmp_path)
        assert (code, build["buildStatus"]) == (1, "STOPPED"), printed
        assert "::error::Build status: STOPPED" in printed
