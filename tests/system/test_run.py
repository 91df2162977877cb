"""`buildyard run`: phases, variables, artifacts, the log and exit codes, each on a real build.

What hostile or broken input does is in test_bad_input.py; images are in test_images.py; real packages in
test_packages.py.
"""

import json
import os
import pty
import re
import signal
import stat
import subprocess

import pytest

from conftest import ORDINARY
from host import Traces, wait_until
from local import files, interrupt_when, spec

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


# Variables and the working directory


# BS-020, BS-023, BS-056
def test_variables_and_the_folder_persist_across_commands_and_phases(project):
    project.buildspec(
        spec(
            install=["PLAIN=one; export SHOWN='two words'", "mkdir -p deep/er && cd deep"],
            build=["cd er", 'echo "$PLAIN|$SHOWN|${PWD##*/src/}"', "sh -c 'echo \"[$PLAIN|$SHOWN]\"'"],
            post_build=['echo "still $PLAIN in ${PWD##*/}"'],
        )
    )
    ran = project.run().ended(0)
    assert ran.output == ["one|two words|deep/er", "[|two words]", "still one in er"]


# BS-020, BS-022
def test_each_command_of_version_0_1_has_a_shell_of_its_own(project):
    project.buildspec({"version": 0.1, "phases": {"build": {"commands": ["X=1; cd /", 'echo "[$X]" ${PWD##*/}']}}})
    assert project.run().ended(0).output == ["[] src"]


# BS-022
def test_commands_of_version_0_1_may_be_chained_or_in_a_script(project):
    project.write("tool.sh", "cd / && echo $X $PWD")
    chained = ["X=chained && cd /tmp && echo $X $PWD", "X=script . ./tool.sh"]
    project.buildspec({"version": 0.1, "phases": {"build": {"commands": chained}}})
    assert project.run().ended(0).output == ["chained /tmp", "script /"]


# BS-025, BS-027
def test_exit_ends_its_command_only(project):
    project.buildspec(spec(build=["A=kept; exit 0", "echo $A $CODEBUILD_LAST_EXIT"]))
    assert project.run().ended(0).output == ["kept 0"]


# BS-014, BS-042
def test_values_are_literal_and_keep_their_spelling(project):
    project.buildspec(
        'version: 0.2\nenv:\n  variables:\n    VER: 1.10\n    FLAG: yes\n    RAW: "$HOME/x"\n'
        'phases:\n  build:\n    commands:\n      - echo "$VER $FLAG $RAW"\n'
    )
    assert project.run().ended(0).output == ["1.10 yes $HOME/x"]


def test_e_beats_the_env_file_which_beats_the_buildspec(project, tmp_path):
    project.buildspec(
        {"env": {"variables": {"A": "spec", "B": "spec", "C": "spec"}}} | spec(build=['echo "$A $B $C $D"'])
    )
    given = tmp_path / "vars"
    given.write_text("# comment\nB=file\nexport C='file too'\n\n")
    ran = project.run("--env-file", given, "-e", "C=flag", "-e", "D", env={"D": "from outside"})
    assert ran.ended(0).output == ["spec file flag from outside"]


# EN-040, EN-041, EN-052, EN-058, EN-060, EN-065, EN-080
def test_a_build_sees_codebuilds_variables_and_not_the_callers(project):
    names = "CODEBUILD_BUILD_ID CODEBUILD_SRC_DIR CODEBUILD_CI HOME AWS_REGION PWD CALLERS_SECRET"
    project.buildspec(spec(build=[f"for name in {names}; do eval echo $name=\\$$name; done"]))
    ran = project.run(env={"CALLERS_SECRET": "x", "AWS_REGION": "eu-west-3"}).ended(0)
    seen = dict(line.split("=", 1) for line in ran.output)
    assert re.fullmatch(rf"{project.folder.name}:[0-9a-f-]{{36}}", seen["CODEBUILD_BUILD_ID"])
    assert re.fullmatch(r"/codebuild/output/src\d+/src", seen["CODEBUILD_SRC_DIR"])
    assert seen["PWD"] == seen["CODEBUILD_SRC_DIR"]
    assert (seen["CODEBUILD_CI"], seen["HOME"], seen["AWS_REGION"]) == ("true", "/root", "eu-west-3")
    assert seen["CALLERS_SECRET"] == ""


# BS-045
def test_codebuilds_own_variables_keep_their_values(project):
    variables = {"CODEBUILD_CI": "never", "CODEBUILD_BUILD_ID": "mine", "CODEBUILD_OF_MINE": "mine"}
    names = " ".join(f"${name}" for name in variables)
    project.buildspec({"env": {"variables": variables}} | spec(build=[f"echo {names}"]))
    ((ci, build_id, of_mine),) = (line.split() for line in project.run().ended(0).output)
    assert (ci, of_mine) == ("true", "mine") and build_id.startswith(f"{project.folder.name}:")


# BS-040
def test_the_shell_is_sh_unless_env_shell_says_bash(project):
    probe = spec(build=["echo bash=${BASH_VERSION:+yes}"])
    project.buildspec(probe)
    assert project.run().ended(0).output == ["bash="]
    project.buildspec(
        {"env": {"shell": "bash"}} | spec(build=["A=(x 'y z')", 'echo bash=${BASH_VERSION:+yes} "${A[1]}"'])
    )
    assert project.run().ended(0).output == ["bash=yes y z"]


# BS-053
def test_exported_variables_are_what_they_are_at_the_end(project):
    project.buildspec(
        {"env": {"variables": {"A": "first"}, "exported-variables": ["A", "B", "AWS_X", "UNSET"]}}
        | spec(build=["A=second; B='two words'; AWS_X=1"], post_build=["A=third"])
    )
    report = json.loads(project.run("--env-report", "json").ended(0).out)
    exported = {one["name"]: one["value"] for one in report["exportedEnvironmentVariables"]}
    assert exported == {"A": "third", "B": "two words"}


def test_what_a_build_used_is_told_by_phase_and_in_the_end(project):
    busy = 'python3 -c "while __import__(\'time\').process_time() < 0.4: pass"'
    project.buildspec(spec(build=["head -c 5000000 /dev/zero > large && sync large", busy]))
    ran = project.run("--env-report", "json").ended(0)
    used = {phase["phaseType"]: phase["used"] for phase in json.loads(ran.out)["phases"]}
    assert used["BUILD"]["cpuMillis"] >= 300 and used["BUILD"]["networkSentBytes"] is None, used
    assert used["PRE_BUILD"]["cpuMillis"] < used["BUILD"]["cpuMillis"], used
    writes, computes = used["BUILD"]["commands"]
    assert computes["command"] == busy and computes["tookMillis"] >= 300 and computes["cpuMillis"] >= 300
    assert writes["cpuMillis"] < computes["cpuMillis"]
    assert writes["diskWrittenBytes"] >= 5_000_000 > computes["diskWrittenBytes"]
    assert 5_000_000 <= used["BUILD"]["diskUsedBytes"] < 10_000_000 and used["PRE_BUILD"]["diskUsedBytes"] is None
    assert used["PRE_BUILD"]["commands"] == [] and used["BUILD"]["moreCommands"] == 0
    assert "Used " in ran.err and " s of processor time" in ran.err


# BS-087
def test_background_processes_outlive_their_command_but_not_the_build(project):
    project.buildspec(
        spec(build=["nohup sleep 1000 >/dev/null 2>&1 & echo $! > pid", "kill -0 $(cat pid) && echo alive"])
    )
    assert project.run().ended(0).output == ["alive"]


# Phases: which follow which


# BS-073, BS-075
def test_a_failing_command_ends_its_phase_and_finally_runs_all_the_same(project):
    project.buildspec(spec(build={"commands": ["echo one", "exit 7", "echo never"], "finally": ["echo last"]}))
    ran = project.run().ended(1)
    assert ran.output == ["one", "last"]
    assert ran.contexts() == [
        ("COMMAND_EXECUTION_ERROR", "Error while executing command: exit 7. Reason: exit status 7")
    ]


# BS-075
def test_a_failing_finally_fails_the_phase(project):
    project.buildspec(spec(build={"commands": ["echo fine"], "finally": ["false"]}))
    assert project.run().ended(1).phases()["BUILD"] == "FAILED"


# BS-076, LC-030
@pytest.mark.parametrize("phase", ["install", "pre_build"])
def test_nothing_follows_a_failed_install_or_pre_build(project, phase):
    phases = {name: [f"echo {name}"] for name in ["install", "pre_build", "build", "post_build"]}
    phases[phase] = [f"echo {phase}; false"]
    project.buildspec(spec(**phases) | {"artifacts": {"files": ["**/*"]}})
    ran = project.run().ended(1)
    assert ran.output == ["install", "pre_build"][: 1 + (phase == "pre_build")]
    assert ran.phases()[phase.upper()] == "FAILED"
    assert not {"BUILD", "POST_BUILD", "UPLOAD_ARTIFACTS"} & set(ran.phases())
    assert not project.artifacts.exists()


# BS-077, LC-031
def test_post_build_and_artifacts_follow_a_failed_build(project):
    project.buildspec(
        spec(build=["echo made > made.txt", "false"], post_build=["echo succeeding=$CODEBUILD_BUILD_SUCCEEDING"])
        | {"artifacts": {"files": ["made.txt"]}}
    )
    ran = project.run().ended(1)
    assert ran.output == ["succeeding=0"]
    assert ran.phases()["UPLOAD_ARTIFACTS"] == "SUCCEEDED"
    assert files(project.artifacts) == ["made.txt"]


# BS-078
def test_artifacts_follow_a_failed_post_build(project):
    project.buildspec(
        spec(build=["echo x > x"], post_build=["echo succeeding=$CODEBUILD_BUILD_SUCCEEDING; false"])
        | {"artifacts": {"files": ["x"]}}
    )
    ran = project.run().ended(1)
    assert ran.output == ["succeeding=1"]
    assert files(project.artifacts) == ["x"]


# BS-080, BS-081
def test_on_failure_abort_and_continue_are_honoured(make_project):
    aborted = make_project()
    aborted.buildspec(spec(build={"on-failure": "ABORT", "commands": ["false"]}, post_build=["echo after"]))
    assert aborted.run().ended(1).output == []
    continued = make_project()
    continued.buildspec(spec(install={"on-failure": "CONTINUE", "commands": ["false"]}, build=["echo after"]))
    ran = continued.run().ended(1)
    assert ran.output == ["after"]
    assert ran.phases()["INSTALL"] == "FAILED" and ran.phases()["BUILD"] == "SUCCEEDED"


# Users


# BS-030
@needs_root
def test_run_as_runs_the_commands_as_that_user(project):
    project.buildspec(
        {"run-as": "nobody"}
        | spec(
            pre_build={"run-as": "root", "commands": ["echo $(id -un) > who; cat who"]},
            build=["id -un", "cat who", "touch /usr/x 2>/dev/null || echo no"],
        )
    )
    assert project.run().ended(0).output == ["root", "nobody", "root", "no"]


# BS-032
def test_an_unknown_user_fails_the_phase_and_is_named(project):
    project.buildspec(spec(build={"run-as": "no-such-user", "commands": ["true"]}))
    ran = project.run().ended(1)
    assert ran.phases()["BUILD"] == "FAILED"
    assert "no-such-user" in ran.contexts()[0][1]


# Artifacts


def tree(project):
    for name in ["a.txt", "out/b.txt", "out/deep/c.txt", "out/deep/c.log", ".hidden/d.txt"]:
        project.write(name, name)
    project.write("out/tool", "#!/bin/sh\n", 0o755)


# BS-130, BS-134..137, BS-180..182, BS-191
@pytest.mark.parametrize(
    ("artifacts", "expected"),
    [
        ({"files": ["a.txt"]}, ["a.txt"]),
        ({"files": ["**/*"], "base-directory": "out"}, ["b.txt", "deep/c.log", "deep/c.txt", "tool"]),
        ({"files": ["out/*"]}, ["out/b.txt", "out/tool"]),
        ({"files": ["**/*.txt"]}, [".hidden/d.txt", "a.txt", "out/b.txt", "out/deep/c.txt"]),
        ({"files": ["out/**/*"], "exclude-paths": ["**/deep/**/*"]}, ["out/b.txt", "out/tool"]),
        ({"files": ["**/*.txt"], "exclude-paths": ["**/.*/**/*"]}, ["a.txt", "out/b.txt", "out/deep/c.txt"]),
        ({"files": ["out/**/*"], "discard-paths": "yes"}, ["b.txt", "c.log", "c.txt", "tool"]),
        ({"files": ["missing", "a.txt"]}, ["a.txt"]),
        ({"files": ["**/*"], "base-directory": "o*"}, ["b.txt", "deep/c.log", "deep/c.txt", "tool"]),
        ({"files": ["b.txt"], "base-directory": "$OUT"}, ["b.txt"]),
    ],
)
def test_artifacts_are_what_the_patterns_select(project, artifacts, expected):
    tree(project)
    project.buildspec(spec(build=["OUT=out"]) | {"artifacts": artifacts})
    ran = project.run().ended(0)
    assert files(project.artifacts) == expected
    assert f"Found {len(expected)} file(s)" in ran.service_lines


def test_artifacts_keep_content_and_mode_and_go_where_they_are_told(project, tmp_path):
    tree(project)
    project.buildspec(spec(build=["cd /", "true"]) | {"artifacts": {"files": ["out/tool", "out/b.txt"]}})
    project.run("--artifacts", tmp_path / "there").ended(0)
    tool = tmp_path / "there/out/tool"
    assert (tool.read_text(), stat.S_IMODE(tool.stat().st_mode)) == ("#!/bin/sh\n", 0o755)
    assert not project.artifacts.exists()


# BS-140
def test_secondary_artifacts_have_folders_of_their_own(project):
    tree(project)
    secondary = {"docs": {"files": ["a.txt"]}, "logs": {"files": ["**/*"], "base-directory": "out/deep"}}
    project.buildspec(spec(build=["true"]) | {"artifacts": {"files": ["out/tool"], "secondary-artifacts": secondary}})
    project.run().ended(0)
    assert files(project.artifacts) == ["docs/a.txt", "logs/c.log", "logs/c.txt", "out/tool"]


def test_earlier_artifacts_are_replaced_and_are_no_part_of_the_source(project):
    project.buildspec(spec(build=["touch $NAME"]) | {"artifacts": {"files": ["**/*"]}})
    project.run("-e", "NAME=old").ended(0)
    assert files(project.artifacts) == ["buildspec.yml", "old"]
    project.run("-e", "NAME=new").ended(0)
    assert files(project.artifacts) == ["buildspec.yml", "new"]


# The buildspec


# BS-002, BS-004
def test_a_buildspec_may_be_another_file_or_text(project):
    project.buildspec(spec(build=["echo default"]))
    project.buildspec(spec(build=["echo other"]), "ci/other.yaml")
    assert project.run("--buildspec", "ci/other.yaml").ended(0).output == ["other"]
    ran = project.run("--buildspec", "version: 0.2\nphases:\n  build:\n    commands:\n      - echo inline\n").ended(0)
    assert ran.output == ["inline"]
    assert "YAML location is /codebuild/readonly/buildspec.yml" in ran.service_lines


def test_the_environment_report_is_json_alone_on_standard_output(project):
    project.buildspec(spec(build=["echo to the log"]) | {"artifacts": {"files": ["buildspec.yml"]}})
    ran = project.run("--env-report", "json", "-e", "TOKEN=do-not-show").ended(0)
    report = json.loads(ran.out)
    assert report["build"]["status"] == "SUCCEEDED"
    assert report["environment"]["image"] == "host"
    assert "TOKEN" in report["environment"]["variables"]["given"]
    assert "do-not-show" not in ran.out
    assert [phase["phaseType"] for phase in report["phases"]] == [
        "PROVISIONING",
        "DOWNLOAD_SOURCE",
        "INSTALL",
        "PRE_BUILD",
        "BUILD",
        "POST_BUILD",
        "UPLOAD_ARTIFACTS",
        "FINALIZING",
    ]
    assert report["artifacts"][0]["files"] == 1
    assert report["isolation"]
    assert "to the log" in ran.err


# The log

# Times are `T`; a space at the end of a line is `~`.
LOG = """\
[Container] T Running on CodeBuild local
[Container] T Waiting for agent ping
[Container] T Waiting for DOWNLOAD_SOURCE
[Container] T Phase is DOWNLOAD_SOURCE
[Container] T CODEBUILD_SRC_DIR=/codebuild/output/srcN/src
[Container] T YAML location is /codebuild/output/srcN/src/buildspec.yml
[Container] T Processing environment variables
[Container] T No runtime version selected in buildspec.
[Container] T Moving to directory /codebuild/output/srcN/src
[Container] T Cache is not defined in the buildspec
[Container] T Skip cache due to: no paths specified to be cached
[Container] T Registering with agent
[Container] T Phases found in YAML: 2
[Container] T  INSTALL: 1 commands
[Container] T  BUILD: 2 commands
[Container] T Phase complete: DOWNLOAD_SOURCE State: SUCCEEDED
[Container] T Phase context status code:  Message:~
[Container] T Entering phase INSTALL
[Container] T Running command echo install
install

[Container] T Phase complete: INSTALL State: SUCCEEDED
[Container] T Phase context status code:  Message:~
[Container] T Entering phase PRE_BUILD
[Container] T Phase complete: PRE_BUILD State: SUCCEEDED
[Container] T Phase context status code:  Message:~
[Container] T Entering phase BUILD
[Container] T Running command printf 'no newline'
no newline

[Container] T Running command false

[Container] T Command did not exit successfully false exit status 1
[Container] T Phase complete: BUILD State: FAILED
[Container] T Phase context status code: COMMAND_EXECUTION_ERROR Message: Error while executing command: false. Reason: exit status 1
[Container] T Entering phase POST_BUILD
[Container] T Phase complete: POST_BUILD State: SUCCEEDED
[Container] T Phase context status code:  Message:~
[Container] T Expanding base directory path: .
[Container] T Assembling file list
[Container] T Expanding .
[Container] T Expanding file paths for base directory .
[Container] T Assembling file list
[Container] T Expanding buildspec.yml
[Container] T Found 1 file(s)
[Container] T Phase complete: UPLOAD_ARTIFACTS State: SUCCEEDED
[Container] T Phase context status code:  Message:~
"""


def test_the_log_has_codebuilds_format_to_the_letter(project):
    """LC-110, LC-113..116, BS-072, BS-074, BS-141; the blank line of LC-115 and LC-116 comes after each command."""
    project.buildspec(
        spec(install=["echo install"], build=["printf 'no newline'", "false"])
        | {"artifacts": {"files": ["buildspec.yml"]}}
    )
    ran = project.run().ended(1)
    log = re.sub(r"(?m)^\[Container\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} ", "[Container] T ", ran.out)
    log = re.sub(r"/output/src\d{2,10}/", "/output/srcN/", log)
    assert log == LOG.replace("~", " ")


# BS-015
def test_a_command_of_several_lines_is_one_command(project):
    project.buildspec("version: 0.2\nphases:\n  build:\n    commands:\n      - |\n        echo one\n        echo two\n")
    ran = project.run().ended(0)
    assert " BUILD: 1 commands" in ran.service_lines
    assert "Running command echo one\necho two\none\ntwo\n" in re.sub(r"(?m)^\[Container\] \S+ \S+ ", "", ran.out)


def test_the_log_is_plain_in_a_pipe_and_coloured_on_a_terminal(project):
    project.buildspec(spec(build=["printf '\\033[35mown\\033[0m\\n'"]))
    piped = project.run().ended(0)
    assert piped.out.count("\x1b") == 2 and "\x1b" not in piped.err
    shown = on_a_terminal(project)
    assert re.search(r"\x1b\[[\d;]+m\[Container\] [^\n]*Entering phase BUILD\x1b\[0m", shown)
    assert "\x1b[35mown\x1b[0m" in shown
    assert "\x1b[1" not in on_a_terminal(project, NO_COLOR="1")


def on_a_terminal(project, **variables):
    """What a run prints on a terminal."""
    ours, theirs = pty.openpty()
    environment = project.environment(variables)
    process = subprocess.Popen(project.command([]), env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = b""
    try:
        while piece := os.read(ours, 65536):
            text += piece
    except OSError:
        pass  # the terminal's other side is closed: the end
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return text.decode()


def test_output_is_shown_while_the_command_runs(project, tmp_path):
    project.buildspec(spec(build=["echo early; sleep 1000"]))
    traces = project.traces()
    process = project.start(log=tmp_path / "log")
    assert interrupt_when(process, tmp_path / "log", "\nearly\n") == 130
    traces.gone()


# Exit codes, and what is left


def test_wrong_usage_is_2_and_says_what_is_wrong(project, tmp_path):
    ran = project.run("--no-such-flag").ended(2)
    assert "--no-such-flag" in ran.err
    ran = project.run("--env-file", tmp_path / "missing").ended(2)
    assert str(tmp_path / "missing") in ran.err
    ran = project.run("--timeout", "0").ended(2)
    assert "--timeout" in ran.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_the_build_and_leaves_nothing(project, tmp_path, number):
    project.buildspec(
        spec(
            build={
                "commands": ["sleep 1000 & (trap '' INT TERM HUP; echo deaf; while :; do sleep 1; done)"],
                "finally": ["echo never"],
            },
            post_build=["echo never"],
        )
    )
    traces = project.traces()
    process = project.start(log=tmp_path / "log")
    assert interrupt_when(process, tmp_path / "log", "\ndeaf\n", number) == 130
    traces.gone()
    log = (tmp_path / "log").read_text()
    assert "State: STOPPED" in log and "\nnever\n" not in log


def test_a_killed_run_takes_its_build_with_it(project, tmp_path):
    """Nobody watches any more: the build stops by itself. Its folder may stay until the next run."""
    project.buildspec(spec(build=["echo up; sleep 1000"]))
    traces = Traces([project.folder.name, f"{project.data}/run/"])
    process = project.start(log=tmp_path / "log")
    assert interrupt_when(process, tmp_path / "log", "\nup\n", signal.SIGKILL) == -signal.SIGKILL
    traces.gone()


def test_the_host_and_the_source_are_untouched(project):
    project.write("kept.txt", "as it was")
    mark = project.folder.name
    project.buildspec(
        spec(
            build=[
                f"for place in /usr /etc /usr/local/bin /var/lib /root /tmp; do echo x > $place/{mark} || echo no $place; done",
                f"ls /usr/{mark} /etc/{mark}",
                "echo changed > kept.txt; rm -f buildspec.yml; mkdir -p new; touch new/file",
                "rm -rf /usr/share/doc /etc/passwd; ls",
            ]
        )
    )
    before = {name: (project.folder / name).stat().st_mtime_ns for name in ["kept.txt", "."]}
    ran = project.run().ended(0)
    assert ran.output[-2:] == ["kept.txt", "new"]
    assert (project.folder / "kept.txt").read_text() == "as it was"
    assert files(project.folder) == ["buildspec.yml", "kept.txt"]
    assert {name: (project.folder / name).stat().st_mtime_ns for name in before} == before
    for place in ["/usr", "/etc", "/usr/local/bin", "/var/lib", "/root", "/tmp"]:
        assert not os.path.exists(f"{place}/{mark}")
    assert os.path.exists("/etc/passwd")


def test_a_build_sees_no_home_no_other_process_and_no_socket(project, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    project.buildspec(
        spec(
            build=[
                "ls -A /root /home | grep -v -e '^$' -e ':$' -e '^[.]' || echo no homes",
                f"cat {secret} 2>/dev/null || echo no secret",
                "ls /proc | grep -c '^[0-9]' | { read n; [ $n -lt 10 ] && echo few processes; }",
                "ls /var/run/docker.sock /run/docker.sock 2>/dev/null || echo no socket",
                "hostname; id -u",
            ]
        )
    )
    ran = project.run().ended(0)
    assert ran.output[:4] == ["no homes", "no secret", "few processes", "no socket"]
    assert re.fullmatch("[0-9a-f]{12}", ran.output[4]) and ran.output[5] == "0"


def test_without_a_network_only_loopback_is_there(project):
    project.buildspec(spec(build=["ls /sys/class/net 2>/dev/null || tail -n +3 /proc/net/dev | cut -d: -f1"]))
    ran = project.run("--network", "none").ended(0)
    assert [name.strip() for name in ran.output] == ["lo"]


def test_limits_hold(project):
    project.buildspec(spec(build=["head -c 300M /dev/zero | tail"]))
    ran = project.run("--memory", "64M")
    assert ran.code == 1, ran.out
    assert "exit status" in ran.contexts()[0][1] or "out of memory" in ran.contexts()[0][1]


# An ordinary user


def test_an_ordinary_user_builds_as_well(ordinary_project):
    ordinary_project.buildspec(
        spec(
            install=["X=kept; cd /tmp"],
            build=["id -u; echo $X ${PWD}", "echo made > $CODEBUILD_SRC_DIR/made.txt", "echo x > /usr/x && rm /usr/x"],
        )
        | {"artifacts": {"files": ["made.txt"]}}
    )
    ran = ordinary_project.run().ended(0)
    assert ran.output == ["0", "kept /tmp"]
    made = ordinary_project.artifacts / "made.txt"
    assert made.read_text() == "made\n" and made.stat().st_uid == ordinary_project.user


def test_an_ordinary_user_stops_a_build_and_leaves_nothing(ordinary_project, tmp_path):
    ordinary_project.buildspec(spec(build=["echo up; sleep 1000"]))
    traces = ordinary_project.traces()
    process = ordinary_project.start(log=tmp_path / "log")
    assert interrupt_when(process, tmp_path / "log", "\nup\n") == 130
    traces.gone()


def test_forbidden_user_namespaces_are_named_with_what_mends_it(ordinary_project):
    """A user namespace in which no further ones may be made stands for a host that forbids them."""
    ordinary_project.buildspec(spec(build=["true"]))
    ordinary_project.user = None
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set -all --inh-caps -all "$@"'
    identity = ["--reuid", str(ORDINARY), "--regid", str(ORDINARY), "--clear-groups"]
    prefix = ["setpriv", *identity, "--", "unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh"]
    ran = ordinary_project.run(prefix=prefix, env={"BUILDYARD_DATA": str(ordinary_project.data)})
    assert ran.code in (1, 3), ran.err
    said = ran.out + ran.err
    assert "user namespaces" in said and "max_user_namespaces" in said


# Time


def test_many_builds_at_once_do_not_disturb_each_other(make_project, tmp_path):
    projects = [make_project() for _ in range(6)]
    for number, project in enumerate(projects):
        project.buildspec(spec(build=[f"echo {number} > mine; sleep 0.3; cat mine"]))
    started = [project.start(log=tmp_path / str(number)) for number, project in enumerate(projects)]
    assert [process.wait(timeout=300) for process in started] == [0] * 6
    for number in range(6):
        assert f"\n{number}\n" in (tmp_path / str(number)).read_text()
    wait_until(lambda: not projects[0].traces().left(), "nothing left")
