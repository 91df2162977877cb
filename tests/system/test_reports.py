"""Test reports and code coverage as AWS clients and users of `buildyard run` have them.

What a file says in each of the ten formats is tested in the room `report`.
"""

import datetime
import io
import json
import os
import subprocess
import zipfile

import pytest
from botocore.exceptions import ClientError

from local import spec
from served import ACCOUNT, REGION, contexts

JUNIT = """<testsuites><testsuite name="math" time="0.5">
<testcase classname="math.Add" name="small numbers" time="0.25"/>
<testcase classname="math.Add" name="large numbers" time="0.125"><failure message="4 is not 5">at line 7</failure></testcase>
<testcase classname="math.Add" name="no numbers"><skipped/></testcase>
</testsuite></testsuites>"""
COVERAGE = """<coverage line-rate="0.5"><packages><package name="p"><classes>
<class name="A" filename="src/a.py"><lines><line number="1" hits="1"/><line number="2" hits="1"/></lines></class>
<class name="B" filename="src/b.py"><lines><line number="1" hits="1"/><line number="2" hits="0"/></lines></class>
</classes></package></packages></coverage>"""


def writes(files, **reports):
    """A buildspec that writes files, and reports them."""
    commands = ["mkdir -p out"]
    for name, text in files.items():
        commands.append(f"cat >out/{name} <<'END'\n{text}\nEND")
    return spec(build=commands) | {"reports": reports}


def group_arn(name):
    return f"arn:aws:codebuild:{REGION}:{ACCOUNT}:report-group/{name}"


@pytest.fixture
def reported(codebuild, name):
    """A build with a test report that fails and a coverage report; `(its project, {group: report})`."""
    inline = writes(
        {"unit.xml": JUNIT, "coverage.xml": COVERAGE},
        unit={"files": ["unit.xml"], "base-directory": "out"},
        coverage={"files": ["out/coverage.xml"], "file-format": "CoberturaXml"},
    )
    codebuild.create_project(name, json.dumps(inline))
    build = codebuild.run(name)
    assert build["buildStatus"] == "SUCCEEDED", (contexts(build), codebuild.log(build))
    reports = codebuild.api.batch_get_reports(reportArns=build["reportArns"])["reports"]
    return build, {report["reportGroupArn"].rpartition("-")[2]: report for report in reports}


# AP-055, BS-110, BS-112..114, IN-100
def test_what_a_build_reports_is_shown_by_group_report_case_and_file(codebuild, reported, name):
    build, reports = reported
    assert set(reports) == {"unit", "coverage"}
    unit, coverage = reports["unit"], reports["coverage"]
    assert (unit["type"], unit["status"], unit["executionId"]) == ("TEST", "FAILED", build["arn"])
    assert unit["reportGroupArn"] == group_arn(f"{name}-unit")
    assert unit["arn"].startswith(f"arn:aws:codebuild:{REGION}:{ACCOUNT}:report/{name}-unit:")
    assert unit["expired"] - unit["created"] == datetime.timedelta(days=30)
    assert (unit["truncated"], unit["exportConfig"]) == (False, {"exportConfigType": "NO_EXPORT"})
    summary = unit["testSummary"]
    assert set(summary["statusCounts"]) == {"ERROR", "FAILED", "SKIPPED", "SUCCEEDED", "UNKNOWN"}
    assert summary["total"] == 3
    assert {status: count for status, count in summary["statusCounts"].items() if count} == {
        "SUCCEEDED": 1, "FAILED": 1, "SKIPPED": 1,
    }  # fmt: skip
    assert (coverage["type"], coverage["status"]) == ("CODE_COVERAGE", "SUCCEEDED")
    covered = coverage["codeCoverageSummary"]
    assert (covered["linesCovered"], covered["linesMissed"], covered["lineCoveragePercentage"]) == (3, 1, 75.0)

    cases = codebuild.api.describe_test_cases(reportArn=unit["arn"])["testCases"]
    assert {case["name"]: case["status"] for case in cases} == {
        "small numbers": "SUCCEEDED", "large numbers": "FAILED", "no numbers": "SKIPPED",
    }  # fmt: skip
    (failed,) = codebuild.api.describe_test_cases(reportArn=unit["arn"], filter={"status": "FAILED"})["testCases"]
    assert (failed["prefix"], failed["durationInNanoSeconds"]) == ("math.Add", 125_000_000)
    assert "4 is not 5" in failed["message"]
    files = codebuild.api.describe_code_coverages(
        reportArn=coverage["arn"], sortBy="LINE_COVERAGE_PERCENTAGE", sortOrder="ASCENDING"
    )["codeCoverages"]
    assert [(file["filePath"], file["lineCoveragePercentage"]) for file in files] == [("src/b.py", 50.0), ("src/a.py", 100.0)]

    groups = codebuild.api.list_report_groups()["reportGroups"]
    assert {group_arn(f"{name}-unit"), group_arn(f"{name}-coverage")} <= set(groups)
    (group,) = codebuild.api.batch_get_report_groups(reportGroupArns=[group_arn(f"{name}-unit")])["reportGroups"]
    assert (group["name"], group["type"], group["exportConfig"]["exportConfigType"]) == (f"{name}-unit", "TEST", "NO_EXPORT")
    listed = codebuild.api.list_reports_for_report_group(reportGroupArn=group["arn"])["reports"]
    assert listed == [unit["arn"]] and unit["arn"] in codebuild.api.list_reports()["reports"]
    trend = codebuild.api.get_report_group_trend(reportGroupArn=group["arn"], trendField="PASS_RATE")
    assert trend["rawData"][0]["reportArn"] == unit["arn"]


# BS-115: a build whose tests fail is the one whose reports matter.
def test_reports_are_made_when_a_command_failed_and_read_by_the_aws_command_line(codebuild, server, name):
    inline = writes({"unit.xml": JUNIT}, unit={"files": ["out/*.xml"]})
    inline["phases"]["build"]["commands"].append("false")
    codebuild.create_project(name, json.dumps(inline))
    build = codebuild.run(name)
    assert build["buildStatus"] == "FAILED"
    (arn,) = build["reportArns"]
    aws = lambda *words: json.loads(  # noqa: E731
        subprocess.run(
            ["aws", "codebuild", *words, "--output", "json"],
            env=server.environment() | {"PATH": os.environ["PATH"]},
            check=True,
            capture_output=True,
        ).stdout
        or "{}"
    )
    assert aws("batch-get-reports", "--report-arns", arn)["reports"][0]["status"] == "FAILED"
    assert len(aws("describe-test-cases", "--report-arn", arn, "--filter", "status=FAILED")["testCases"]) == 1
    assert aws("list-report-groups", "--sort-by", "NAME")["reportGroups"]
    aws("delete-report", "--arn", arn)
    assert aws("batch-get-reports", "--report-arns", arn)["reportsNotFound"] == [arn]


# BS-117, BS-118
def test_report_files_are_found_without_being_named_unless_a_build_says_no(codebuild, name):
    files = {"unit.xml": JUNIT}
    codebuild.create_project(name, json.dumps(writes(files)))
    build = codebuild.run(name)
    (arn,) = build["reportArns"]
    assert f"report/{name}-JUNITXML-AutoDiscovered:" in arn or f"report/{name}-junitxml-AutoDiscovered:".lower() in arn.lower()
    assert "Found 1 file(s)" in codebuild.log(build)
    off = [{"name": "CODEBUILD_CONFIG_AUTO_DISCOVER", "value": "false"}]
    build = codebuild.run(name, environmentVariablesOverride=off)
    assert build.get("reportArns", []) == []
    nothing = codebuild.run(name, buildspecOverride=json.dumps(spec(build=["true"])))
    assert "No matching auto-discover report paths found" in codebuild.log(nothing)


# BS-116
def test_a_group_of_another_account_fails_the_build(codebuild, name):
    other = f"arn:aws:codebuild:{REGION}:999999999999:report-group/theirs"
    codebuild.create_project(name, json.dumps(writes({"unit.xml": JUNIT}, **{other: {"files": ["out/unit.xml"]}})))
    build = codebuild.run(name)
    assert build["buildStatus"] == "FAILED" and "theirs" in json.dumps(build, default=str)


# AP-090
def test_an_exports_key_is_told_as_it_was_written_also_where_nothing_is_encrypted(codebuild, name):
    destination = {"bucket": "bucket", "encryptionKey": "arn:aws:kms:us-east-1:123456789012:key/some", "encryptionDisabled": True}
    export = {"exportConfigType": "S3", "s3Destination": destination}
    group = codebuild.api.create_report_group(name=name, type="TEST", exportConfig=export)["reportGroup"]
    assert group["exportConfig"]["s3Destination"] == destination | {"path": "", "packaging": "NONE"}
    codebuild.api.delete_report_group(arn=group["arn"])


# IN-111
@pytest.mark.parametrize("packaging", ["NONE", "ZIP"])
def test_a_groups_files_are_exported_as_they_were(codebuild, name, packaging):
    name = f"{packaging}-{name}"
    bucket = name.lower().replace("_", "-")[-63:].strip("-")
    codebuild.s3.create_bucket(Bucket=bucket)
    destination = {"bucket": bucket, "path": "reports", "packaging": packaging}
    export = {"exportConfigType": "S3", "s3Destination": destination}
    group = codebuild.api.create_report_group(name=name, type="TEST", exportConfig=export)["reportGroup"]
    assert group["exportConfig"]["s3Destination"]["bucket"] == bucket
    codebuild.create_project(name, json.dumps(writes({"unit.xml": JUNIT}, **{group["arn"]: {"files": ["out/unit.xml"]}})))
    build = codebuild.run(name)
    assert build["buildStatus"] == "SUCCEEDED", contexts(build)
    (found,) = codebuild.s3.list_objects_v2(Bucket=bucket)["Contents"]
    body = codebuild.s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read()
    if packaging == "ZIP":
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            (inner,) = archive.namelist()
            body = archive.read(inner)
    assert body.decode().strip() == JUNIT
    with pytest.raises(ClientError) as refused:
        codebuild.api.delete_report_group(arn=group["arn"])
    assert refused.value.response["Error"]["Code"] == "InvalidInputException"
    codebuild.api.delete_report_group(arn=group["arn"], deleteReports=True)
    assert codebuild.api.batch_get_report_groups(reportGroupArns=[group["arn"]])["reportGroupsNotFound"] == [group["arn"]]


# BS-110
def test_a_local_build_ends_with_what_its_tests_said(project):
    project.buildspec(writes({"unit.xml": JUNIT}, unit={"files": ["out/unit.xml"]}))
    done = project.run().ended(0)
    assert "large numbers" in done.out + done.err
    kept = list((project.folder / ".buildyard/reports").rglob("*.json"))
    assert kept and "4 is not 5" in kept[0].read_text()
