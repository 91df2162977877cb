"""Environments that `buildyard run` keeps at phase borders: `run --from`, what is not kept, what a kill leaves, `buildyard clean`.

What a shell in such an environment is, is in test_shell.py.
"""

import ast
import contextlib
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from host import Traces, wait_until
from local import files, spec

OWNERS = ["root", "ordinary"]


@pytest.fixture(params=OWNERS)
def anyones_project(request):
    """An empty source folder of root, and one of an ordinary user."""
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("only root has folders of root")
    return request.getfixturevalue("project" if request.param == "root" else "ordinary_project")


def layers(project):
    """What is kept of the folder: names of layers."""
    return sorted(path.name for path in (project.data / "snapshots").glob("*/layers/*"))


STAGED = spec(
    install=["PLAIN='of install'; export SHOWN=exported", "mkdir made && cd made && echo one >one && echo tmp >/tmp/kept"],
    pre_build=["echo two >two; echo sys >/tmp/sys; f=$PWD", "rm ../gone; echo mine >../edited"],
    build=['echo "in ${PWD##*/}: $PLAIN $SHOWN $(cat one two /tmp/kept /tmp/sys ../edited | tr "\\n" " ")"; test -f ../ok'],
    post_build=["echo last $CODEBUILD_BUILD_SUCCEEDING"],
)
SEEN = "in made: of install exported one two tmp sys mine "


def staged(project):
    project.write("gone", "")
    project.write("edited", "theirs\n")
    project.buildspec(STAGED)
    belongs(project)


def belongs(project):
    """Gives everything in the folder to its owner."""
    if project.user:
        for path in [project.folder, *project.folder.rglob("*")]:
            os.chown(path, project.user, project.user)


def test_a_build_goes_on_from_the_phase_that_failed(anyones_project):
    project = anyones_project
    staged(project)
    first = project.run().ended(1)
    assert first.output == [SEEN, "last 0"]
    told = [line.split(maxsplit=2)[-1] for line in first.err.splitlines()[-2:]]
    assert told == [f"buildyard shell --folder {project.folder}", f"buildyard run {project.folder} --from build"]
    project.write("ok", "")
    project.write("new", "")
    again = project.run("--from", "build").ended(0)
    assert again.output == [SEEN, "last 1"]
    assert list(again.phases()) == ["DOWNLOAD_SOURCE", "BUILD", "POST_BUILD", "UPLOAD_ARTIFACTS"]
    assert "buildyard" not in again.err
    skipped = [line for line in again.service_lines if line.startswith("Skipping phase ")]
    assert len(skipped) == 2 and "INSTALL" in skipped[0] and "PRE_BUILD" in skipped[1]
    # Any phase of the build that went on can be gone back to as well.
    assert project.run("--from", "post_build").ended(0).output == ["last 1"]
    assert project.run("--from", "pre_build").ended(0).output == [SEEN, "last 1"]
    assert project.run("--from", "install").ended(0).output == [SEEN, "last 1"]


def test_edits_show_but_for_files_the_build_had_changed(project):
    staged(project)
    project.run().ended(1)
    project.write("edited", "edited again\n")
    project.write("other", "from outside\n")
    project.buildspec(STAGED | {"phases": STAGED["phases"] | {"build": {"commands": ["cat ../edited ../other; ls ..", "pwd"]}}})
    ran = project.run("--from", "build").ended(0)
    assert ran.output[:2] == ["mine", "from outside"]
    assert "gone" not in ran.output


def test_what_changed_since_is_told_by_name(project):
    staged(project)
    project.run().ended(1)
    changed = STAGED["phases"] | {"install": {"commands": ["echo other"]}}
    project.buildspec(STAGED | {"phases": changed, "env": {"variables": {"ADDED": "a value"}}})
    ran = project.run("--from", "build", "-e", "SHOWN=new").ended(1)
    warnings = [line for line in ran.service_lines if line.startswith("Warning: ")]
    assert any("INSTALL has changed" in line for line in warnings)
    assert not any("PRE_BUILD" in line or "BUILD has" in line for line in warnings)
    assert any("ADDED, SHOWN" in line for line in warnings)
    assert ran.output[0] == SEEN.replace("exported", "new")


def test_variables_of_the_service_are_those_of_the_build_itself(project):
    project.buildspec(spec(install=["first=$CODEBUILD_BUILD_ID"], build=['echo "$first $CODEBUILD_BUILD_ID"']))
    first, second = project.run().ended(0).output[0].split(" ")
    assert first == second
    before, now = project.run("--from", "build").ended(0).output[0].split(" ")
    assert before == first and now != first


def test_phases_without_commands_are_borders_too(project):
    project.buildspec(spec(build=["echo built | tee made"]))
    project.run().ended(0)
    project.buildspec(spec(pre_build=["echo new"], build=["echo built"], post_build=["cat made"]))
    assert project.run("--from", "post_build").ended(0).output == ["built"]


@pytest.mark.parametrize(
    "command, why",
    [
        ("sleep 100000 & disown", "sleep) goes on in the background"),
        ("echo x >/dev/shm/x", "/dev/shm/x is in memory"),
        ("echo x >/codebuild/output/tmp/x", "/codebuild/output/tmp/x is in memory"),
        ("python3 -c 'import ctypes; exit(ctypes.CDLL(None).shmget(0, 4096, 0o1600) < 0)'", "System V IPC"),
    ],
)
def test_what_is_no_file_is_never_lost_for_a_snapshot(project, command, why):
    alive = "ls /dev/shm /codebuild/output/tmp; pgrep sleep >/dev/null && echo alive; true"
    project.buildspec(
        {"version": 0.2, "env": {"shell": "bash"}, "phases": spec(install=["echo 1"], pre_build=[command], build=[alive])["phases"]}
    )
    plain = project.run("--no-snapshots").ended(0).output
    assert project.run().ended(0).output == plain
    refused = project.run("--from", "build").ended(2)
    assert "no snapshot before BUILD" in refused.err and why in refused.err and "--from pre_build" in refused.err
    assert project.run("--from", "pre_build").ended(0).output == plain[1:]


def test_a_phase_that_was_not_reached_has_no_snapshot(project):
    project.buildspec(spec(pre_build=["false"], build=["true"]))
    project.run().ended(1)
    refused = project.run("--from", "build").ended(2)
    assert "PRE_BUILD of that build failed" in refused.err and "--from pre_build" in refused.err


def test_without_a_build_before_there_is_nothing_to_go_on_from(project):
    project.buildspec(spec(build=["true"]))
    assert "nothing is kept" in project.run("--from", "build").ended(2).err
    project.run("--no-snapshots").ended(0)
    assert "nothing is kept" in project.run("--from", "build").ended(2).err
    assert not (project.data / "snapshots").exists() or not layers(project)


# Everything a build can do to files and can see of them, over three phases.
TREE = spec(
    install=[
        "mkdir -p a/b/c && echo 1 >a/b/c/file && ln -s file a/b/c/link && ln a/b/c/file a/hard && mkfifo a/pipe",
        "chmod 750 a/b && chmod 600 a/hard && touch -d '2001-02-03 04:05:06 UTC' a/b/c/file && mkdir -p /opt/t/x && echo t >/opt/t/x/y",
        "printf '#!/bin/sh\\necho tool\\n' >/usr/local/bin/tool && mkdir emptied && touch emptied/1 emptied/2; echo x >'odd  name\n'",
        "head -c 3000000 /dev/zero | tr '\\0' z >large; python3 -c 'import os; os.mknod(\"node\")'",
    ],
    pre_build=[
        "rm -r a/b/c && mkdir a/b/c && echo 2 >a/b/c/other && rm emptied/* && echo more >>large && echo 3 >>given",
        "rm -r folder && echo file >folder; mv large moved; chmod 700 /opt/t; rm a/pipe && mkfifo a/pipe2; cp -a a copied",
        "mv a renamed; mv emptied filled && touch filled/3; rm -rf /opt/t/x; mkdir /opt/t/x; ln -sf nowhere a",
    ],
    build=[
        "find . -path ./.buildyard -prune -o -printf '%p %y %m %s %l %u %g\\n' | LC_ALL=C sort",
        "cat given folder renamed/b/c/other; wc -c moved; find /opt/t /tmp -printf '%p %y %m\\n' | LC_ALL=C sort; stat -c %Y renamed/hard; stat -c '%a %U' /tmp /root . ..",
        "echo again >>moved && md5sum moved && rm moved && ! cat moved && touch moved && cat moved",
    ],
)


def test_a_build_sees_the_same_with_snapshots_and_without(anyones_project):
    project = anyones_project
    project.write("given", "given\n")
    project.write("folder/file", "x")
    tree = TREE["phases"]
    if project.user:
        # The host's /opt and /usr are not the user's, inside or out.
        text = str(tree).replace("/opt/t", "/tmp/t").replace("/usr/local/bin", "/tmp")
        tree = ast.literal_eval(text)
    project.buildspec({"version": 0.2, "phases": tree, "artifacts": {"files": ["**/*"]}})
    belongs(project)
    without = project.run("--no-snapshots").ended(0)
    made = {name: (project.artifacts / name).read_bytes() for name in files(project.artifacts)}
    kept = project.run().ended(0)
    assert kept.output == without.output
    shorn = [[line.split("/src")[0] for line in ran.service_lines if "CODEBUILD_SRC_DIR" not in line] for ran in (kept, without)]
    assert shorn[0] == shorn[1]
    assert {name: (project.artifacts / name).read_bytes() for name in files(project.artifacts)} == made


def test_only_the_latest_build_is_kept_and_clean_removes_it(project, make_project):
    staged(project)
    project.run().ended(1)
    first = layers(project)
    assert len(first) == 3
    project.run().ended(1)
    second = layers(project)
    assert len(second) == 3 and not set(first) & set(second)
    other = make_project()
    other.buildspec(spec(build=["head -c 5000000 /dev/zero >five"]))
    other.run().ended(0)
    listed = project.say("clean", "--list").ended(0).out
    assert str(project.folder) in listed and re.search(rf"5\.\d MB  {other.folder}\n", listed)
    removed = project.say("clean").ended(0).out
    assert f"snapshots of {project.folder}" in removed
    assert len(layers(project)) == 1
    assert "nothing is kept" in project.say("clean").ended(0).out
    project.say("clean", "--all").ended(0)
    assert not layers(project) and files(project.data) == []


def test_snapshots_of_folders_that_are_gone_go_too(project, make_project):
    project.buildspec(spec(build=["echo x >made"]))
    project.run().ended(0)
    assert len(layers(project)) == 1
    shutil.rmtree(project.folder)
    other = make_project()
    other.buildspec(spec(build=["true"]))
    other.run().ended(0)
    assert len(list((project.data / "snapshots").iterdir())) == 1


def test_hostile_layers_can_be_removed(anyones_project):
    project = anyones_project
    deep = "i=0; while [ $i -lt 300 ]; do mkdir deeper && cd deeper || exit; i=$((i+1)); done"
    project.buildspec(spec(build=[f"({deep}); mkdir closed && touch closed/x && chmod 000 closed; rm -rf buildspec.yml"]))
    belongs(project)
    project.run().ended(0)
    assert layers(project)
    assert "removed" in project.say("clean").ended(0).out
    assert not layers(project)


def test_a_second_build_of_the_folder_at_once_keeps_nothing_and_harms_nothing(project, tmp_path):
    project.buildspec(spec(install=["echo $MARK >mark"], build=['until [ -e "$GATE" ]; do sleep 0.05; done; cat mark']))
    log = tmp_path / "log"
    slow = project.start("-e", "MARK=slow", "-e", "GATE=never", log=log)
    wait_until(lambda: "Entering phase BUILD" in log.read_text(), "the first build in BUILD")
    fast = project.run("-e", "MARK=fast", "-e", "GATE=/").ended(0)
    assert fast.output == ["fast"]
    assert any("No snapshots are kept" in line for line in fast.service_lines)
    assert "is running" in project.say("clean").ended(0).out
    slow.send_signal(signal.SIGINT)
    assert slow.wait(timeout=60) == 130
    assert project.run("--from", "build", "-e", "GATE=/").ended(0).output == ["slow"]


@pytest.mark.parametrize("who", ["driver", "agent"])
def test_after_kill_9_the_snapshots_taken_before_count(project, tmp_path, who):
    project.buildspec(spec(install=["echo kept >mark"], build=['cat mark; until [ -e "$GATE" ]; do sleep 0.05; done']))
    project.run("-e", "GATE=/").ended(0)
    traces = Traces([project.folder.name, f"{project.data}/run/"], [project.data / "run"])
    log = tmp_path / "log"
    run = project.start("-e", "GATE=never", log=log)
    wait_until(lambda: "\nkept\n" in log.read_text(), "the build in BUILD")
    record = next((project.data / "snapshots").glob("*/record.json")).read_text()
    build = next((project.data / "run").iterdir()).name
    if who == "driver":
        run.send_signal(signal.SIGKILL)
        run.wait(timeout=60)
    else:
        agents = [pid for pid in children_of(run.pid)]
        assert agents
        for pid in agents:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert run.wait(timeout=60) == 3, log.read_text()
    assert build in record
    # The next build of the folder takes up where the killed one had been.
    wait_until(lambda: project_is_free(project), "the killed build has let go")
    assert project.run("--from", "build", "-e", "GATE=/").ended(0).output == ["kept"]
    traces.gone()


def children_of(pid):
    """Processes whose parent is `pid`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
            except OSError:
                continue
            if int(status.rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def project_is_free(project):
    import fcntl

    with open(next((project.data / "snapshots").glob("*/lock"))) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True
