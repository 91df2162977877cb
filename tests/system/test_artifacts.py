"""What artifacts hold and where they lie, beyond what test_walkthrough.py shows of each build."""

import io
import json
import shutil
import zipfile

from local import spec


def artifacts(commands, **section):
    return json.dumps(spec(build=commands) | {"artifacts": section})


def keys(codebuild, bucket):
    return [found["Key"] for found in codebuild.s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def archive(codebuild, bucket, key):
    body = codebuild.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return zipfile.ZipFile(io.BytesIO(body))


# SA-085, BS-138
def test_a_zip_has_plain_names_modes_and_links_as_they_were(codebuild, name):
    bucket = "art-zip"
    codebuild.s3.create_bucket(Bucket=bucket)
    commands = ["mkdir -p out/bin && cd out && echo x > bin/tool && chmod 750 bin/tool && touch empty && ln -s bin/tool link"]
    section = {"files": ["./**/*"], "base-directory": "out", "enable-symlinks": "yes"}
    target = {"type": "S3", "location": bucket, "packaging": "ZIP", "name": "all.zip"}
    codebuild.create_project(name, artifacts(commands, **section), artifacts=target)
    assert codebuild.run(name)["buildStatus"] == "SUCCEEDED"
    zipped = archive(codebuild, bucket, "all.zip")
    assert zipped.testzip() is None
    modes = {entry.filename: entry.external_attr >> 16 for entry in zipped.infolist()}
    assert sorted(modes) == ["bin/tool", "empty", "link"]
    assert modes["bin/tool"] & 0o777 == 0o750 and modes["link"] & 0o170000 == 0o120000
    assert zipped.read("link") == b"bin/tool" and zipped.read("empty") == b""


# SA-081, BS-134
def test_files_without_their_paths_lie_side_by_side(codebuild, name):
    bucket = "art-flat"
    codebuild.s3.create_bucket(Bucket=bucket)
    commands = ["mkdir -p a/b c; echo 1 > a/b/one; echo 2 > c/two"]
    section = {"files": ["**/*"], "discard-paths": "yes"}
    codebuild.create_project(name, artifacts(commands, **section), artifacts={"type": "S3", "location": bucket, "path": "P"})
    assert codebuild.run(name)["buildStatus"] == "SUCCEEDED"
    assert keys(codebuild, bucket) == [f"P/{name}/one", f"P/{name}/two"]


# SA-086, SA-071, SA-073, SA-075, SA-082
def test_a_key_is_overwritten_by_the_next_build_unless_it_has_the_builds_uuid(codebuild, name):
    bucket = "art-again"
    codebuild.s3.create_bucket(Bucket=bucket)
    spec_text = artifacts(["echo $CODEBUILD_BUILD_NUMBER > number"], files=["number"])
    target = {"type": "S3", "location": bucket, "packaging": "ZIP", "name": "N"}
    codebuild.create_project(name, spec_text, artifacts=target)
    for number in (1, 2):
        codebuild.run(name)
        assert archive(codebuild, bucket, "N").read("number") == b"%d\n" % number
    assert keys(codebuild, bucket) == ["N"]
    for more, end in (({}, "/N"), ({"path": "P"}, "/N"), ({"path": "P", "packaging": "NONE"}, "/N/number")):
        build = codebuild.run(name, artifactsOverride=target | {"namespaceType": "BUILD_ID"} | more)
        prefix = f"{more['path']}/" if "path" in more else ""
        assert prefix + build["id"].split(":")[1] + end in keys(codebuild, bucket)


# SA-083, SA-084, SA-064
def test_names_come_from_the_project_the_identifier_or_the_buildspec_if_it_may(codebuild, name):
    bucket = "art-names"
    codebuild.s3.create_bucket(Bucket=bucket)
    both = {"files": ["a"], "name": "from-buildspec", "secondary-artifacts": {"other": {"files": ["a"], "name": "second"}}}
    target = {"type": "S3", "location": bucket, "bucketOwnerAccess": "FULL"}
    codebuild.create_project(
        name,
        artifacts(["echo a > a"], **both),
        artifacts=target | {"name": "from-project"},
        secondaryArtifacts=[target | {"artifactIdentifier": "other"}],
    )
    (project,) = codebuild.api.batch_get_projects(names=[name])["projects"]
    assert project["artifacts"]["bucketOwnerAccess"] == "FULL"
    assert codebuild.run(name)["buildStatus"] == "SUCCEEDED"
    assert keys(codebuild, bucket) == ["from-project/a", "other/a"]
    overridden = target | {"name": "from-project", "overrideArtifactName": True}
    codebuild.run(name, artifactsOverride=overridden)
    assert "from-buildspec/a" in keys(codebuild, bucket) and "second/a" not in keys(codebuild, bucket)
    codebuild.run(name, artifactsOverride=overridden, buildspecOverride=artifacts(["echo b > b"], files=["b"]))
    assert "from-project/b" in keys(codebuild, bucket)


# BS-138
def test_a_link_out_of_the_source_folder_is_no_way_to_other_files(codebuild, name):
    bucket = "art-links"
    codebuild.s3.create_bucket(Bucket=bucket)
    commands = ["mkdir d; echo own > d/own; ln -s /etc/hostname d/leak; ln -s ../top d/near; echo top > top"]
    target = {"type": "S3", "location": bucket, "name": "/"}
    section = artifacts(commands, **{"files": ["**/*"], "base-directory": "d"})
    codebuild.create_project(name, section, artifacts=target)
    build = codebuild.run(name)
    assert build["buildStatus"] == "SUCCEEDED" and keys(codebuild, bucket) == ["near", "own"]
    assert "Skipping link leak, which leads out of the source folder" in codebuild.log(build)


# P6
def test_files_of_an_artifact_are_there_all_at_once_or_not_at_all(codebuild, name):
    bucket = "art-all"
    codebuild.s3.create_bucket(Bucket=bucket)
    text = artifacts(["for i in $(seq 300); do echo $CODEBUILD_BUILD_NUMBER > f$i; done", "mkdir z; echo z > z/z"], files=["**/*"])
    codebuild.create_project(name, text, artifacts={"type": "S3", "location": bucket, "name": "N"})
    assert codebuild.run(name)["buildStatus"] == "SUCCEEDED"
    before = keys(codebuild, bucket)
    assert len(before) == 301
    # The last of them finds something in its way.
    folder = codebuild.server.data / "s3" / bucket / "N" / "z"
    shutil.rmtree(folder)
    folder.symlink_to("/nowhere")
    build = codebuild.run(name)
    (context,) = next(p for p in build["phases"] if p["phaseType"] == "UPLOAD_ARTIFACTS")["contexts"]
    assert build["buildStatus"] == "FAILED" and context["message"].startswith("Failed to upload artifacts: ")
    assert keys(codebuild, bucket) == [key for key in before if key != "N/z/z"]
    for key in ("N/f1", "N/f300"):
        assert codebuild.s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"1\n"
