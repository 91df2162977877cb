"""`buildyard check`: exit codes, files and formats as a user's terminal, editor and CI have them. What there is to find
is shown by the tests of crates/buildspec."""

import json
import os
import pty
import re
import subprocess

import jsonschema
import pytest
import yaml

from local import BINARY, REPOSITORY

GOOD = "version: 0.2\nphases: {build: {commands: [make]}}\n"
WARNED = GOOD + "artefacts: {}\n"
BAD = "version: 0.2\nphases:\n  build:\n    commands:\n      - echo a: b\n"


def check(*arguments, text=None, folder=None):
    command = [BINARY, "check", *arguments]
    return subprocess.run(command, input=text, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("text", "arguments", "code"),
    [
        (GOOD, [], 0),
        (WARNED, [], 0),
        (WARNED, ["--strict"], 1),
        (WARNED, ["--strict", "--allow", "BY101"], 0),
        (WARNED, ["--strict", "--allow", "unknown-key"], 0),
        (BAD, [], 1),
        (BAD, ["--allow", "BY008"], 1),
        (GOOD, ["--allow", "BY999"], 2),
        (GOOD, ["--format", "xml"], 2),
        (GOOD, ["--plan", "--format", "json"], 2),
    ],
)
def test_exit_codes_are_as_documented(text, arguments, code):
    ran = check("-", *arguments, text=text)
    assert ran.returncode == code, ran


def test_a_file_a_folder_and_standard_input_are_checked_alike(tmp_path):
    (tmp_path / "buildspec.yml").write_text(BAD)
    (tmp_path / "other.yml").write_text(WARNED)
    for arguments, name in [([], "buildspec.yml"), (["."], "./buildspec.yml"), ([tmp_path], f"{tmp_path}/buildspec.yml")]:
        ran = check(*arguments, folder=tmp_path)
        assert f"{name}:5:9" in ran.stdout and ran.returncode == 1, ran
    assert "stdin:5:9" in check("-", text=BAD).stdout
    both = check("buildspec.yml", "other.yml", folder=tmp_path)
    assert both.stdout.endswith("1 error, 1 warning\n") and "other.yml:3:1" in both.stdout


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    ran = check("absent.yml", folder=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "") and "absent.yml" in ran.stderr


def test_a_device_without_end_is_refused():
    ran = check("/dev/zero")
    assert ran.returncode == 1 and "larger than 1048576 bytes" in ran.stdout


def test_colours_are_for_terminals(tmp_path):
    def at_a_terminal(**environment):
        ours, theirs = pty.openpty()
        subprocess.run([BINARY, "check", "-"], input=BAD.encode(), stdout=theirs, env=os.environ | environment, timeout=120)
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:
            pass
        os.close(ours)
        return shown

    assert b"\x1b[" in at_a_terminal()
    assert b"\x1b[" not in at_a_terminal(NO_COLOR="1")
    assert "\x1b[" not in check("-", text=BAD).stdout


def test_a_plan_is_what_would_run():
    ran = check("--plan", "-", text=WARNED)
    assert ran.stdout == (
        "buildspec 0.2\nphase install: empty\nphase pre_build: empty\nphase build\n  command 1: make\nphase post_build: empty\n"
    )
    assert "BY101" in ran.stderr
    refused = check("--plan", "-", text=BAD)
    assert (refused.stdout, refused.returncode) == ("", 1)


def test_github_gets_annotations():
    ran = check("--format", "github", "-", text=WARNED)
    assert re.fullmatch(r"::warning file=stdin,line=3,endLine=3,col=1,endColumn=10,title=BY101 unknown-key::Unknown key .*\n", ran.stdout)


# What SARIF 2.1.0 requires, and the values it allows for what is written.
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "properties": {
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "required": ["id"],
                                            "properties": {
                                                "shortDescription": {"type": "object", "required": ["text"]},
                                                "defaultConfiguration": {
                                                    "properties": {"level": {"enum": ["none", "note", "warning", "error"]}}
                                                },
                                            },
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message", "ruleId", "ruleIndex", "locations"],
                            "properties": {
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "message": {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}},
                                "locations": {
                                    "type": "array",
                                    "items": {
                                        "properties": {
                                            "physicalLocation": {
                                                "required": ["artifactLocation", "region"],
                                                "properties": {
                                                    "artifactLocation": {"properties": {"uri": {"type": "string", "pattern": "^[^ ]+$"}}},
                                                    "region": {
                                                        "properties": {
                                                            name: {"type": "integer", "minimum": 1}
                                                            for name in ["startLine", "startColumn", "endLine", "endColumn"]
                                                        }
                                                    },
                                                },
                                            }
                                        }
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


def test_sarif_has_what_its_schema_requires(tmp_path):
    (tmp_path / "a b.yml").write_text(BAD)
    (tmp_path / "empty.yml").write_text("")
    sarif = json.loads(check("--format", "sarif", "a b.yml", "empty.yml", folder=tmp_path).stdout)
    jsonschema.validate(sarif, SARIF)
    assert [result["ruleId"] for result in sarif["runs"][0]["results"]] == ["BY008", "BY006"]
    clean = json.loads(check("--format", "sarif", "-", text=GOOD).stdout)
    jsonschema.validate(clean, SARIF)


# The JSON Schema for editors


def loader(name, *left_out):
    """A YAML loader that leaves some plain scalars as text."""
    resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag.split(":")[-1] not in left_out]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return type(name, (yaml.SafeLoader,), {"yaml_implicit_resolvers": resolvers})


# JSON has no dates.
Typed = loader("Typed", "timestamp")
Texts = loader("Texts", "timestamp", "bool", "int", "float")


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(check("--schema").stdout)
    assert schema == json.loads((REPOSITORY / "docs/buildspec.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def cases(*folders):
    found = [path for folder in folders for path in sorted((REPOSITORY / folder).glob("*.y*ml"))]
    return [path for path in found if not re.search(r"version: \W?0\.1", path.read_text(errors="replace"))]


def codes(path):
    findings = json.loads(check("--format", "json", path).stdout)["findings"]
    return {finding["code"] for finding in findings}


# What is a matter of a buildspec's structure, and so of its schema: wrong kinds, absent keys, unknown ones.
STRUCTURAL = {"BY003", "BY005", "BY006", "BY007", "BY008", "BY010", "BY101"}


def test_the_schema_takes_what_the_reader_takes(validator):
    good = [path for path in cases("tests/cases/buildspecs", "crates/buildspec/tests/cases") if not codes(path) & STRUCTURAL]
    assert len(good) >= 60
    for path in good:
        for kind in [Typed, Texts]:
            errors = [error.message for error in validator.iter_errors(yaml.load(path.read_text(), kind))]
            assert not errors, f"{path} by {kind.__name__}: {errors}"


def takes(validator, path):
    try:
        return validator.is_valid(yaml.load(path.read_text(), Typed))
    except yaml.YAMLError:
        return False


def test_the_schema_refuses_what_the_reader_refuses_for_its_structure(validator):
    bad = [path for path in cases("crates/buildspec/tests/cases", "crates/buildspec/tests/cases/bad") if codes(path) & STRUCTURAL]
    bad = [path for path in bad if not codes(path) & {"BY001", "BY009"}]
    assert len(bad) >= 10
    assert [path.name for path in bad if takes(validator, path)] == []


@pytest.mark.parametrize(
    "text",
    [
        "{version: 0.2, phases: {build: {commands: make}}}",
        "{version: 0.2, phases: {deploy: {}}}",
        "{version: 0.2, batch: {build-list: [{identifier: a}], build-fanout: {parallelism: 2}}}",
        "{version: 0.2, batch: {build-list: [{identifier: a, env: {fleet: f, compute-type: BUILD_GENERAL1_SMALL}}]}}",
        "{version: 0.2, batch: {build-list: [{identifier: a, env: {compute-type: ARM_LAMBDA_1GB}}]}}",
        "{version: 0.2, batch: {build-fanout: {parallelism: 0}}}",
        "{version: 0.2, env: {shell: zsh}}",
        "{version: 0.2, reports: {a: {files: [x], file-format: JUNIT}}}",
        "{version: 0.2, reports: {a: {files: x}}}",
        "{version: 0.2, cache: {action: keep}}",
        "{version: 0.2, artifacts: {files: [x], discard-paths: perhaps}}",
        "{version: 0.2, phases: {build: {on-failure: STOP}}}",
        "{version: 0.3}",
        "{phases: {}}",
    ],
)
def test_the_schema_and_the_reader_refuse_alike(validator, text):
    assert not validator.is_valid(yaml.load(text, Typed))
    assert check("-", text=text).returncode == 1
