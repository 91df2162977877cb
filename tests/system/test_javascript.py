"""The AWS SDK for JavaScript against the server: runs the scenarios of tests/sdk-js/codebuild.cjs.

`./test` installs the SDK below target/sdk-js; NODE_PATH names another place.
"""

import os
import shutil
import subprocess

import pytest

from local import REPOSITORY

PROGRAM = REPOSITORY / "tests/sdk-js/codebuild.cjs"
MODULES = os.environ.get("NODE_PATH") or str(REPOSITORY / "target/sdk-js/node_modules")
SCENARIOS = ["projects", "pages", "builds", "stop", "credentials", "errors"]


@pytest.fixture
def run(server):
    assert shutil.which("node"), "node is not installed"

    def run(*arguments, **variables):
        environment = server.environment() | {"NODE_PATH": MODULES} | variables
        return subprocess.run(
            ["node", PROGRAM, *arguments], env=environment, capture_output=True, text=True, timeout=300
        )

    return run


# AP-001..006, AP-009, AP-050, AP-053, AP-061, AP-062, AP-064, AP-070, AP-073..078, AP-110..112
@pytest.mark.parametrize("protocol", ["json", "cbor"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_sdk_for_javascript_works(run, scenario, protocol):
    done = run(scenario, PROTOCOL=protocol)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_scenario_is_run(run):
    assert run().stdout.split() == SCENARIOS
