"""`buildyard shell` and `run --shell-on-failure`: into the environment of a build, with and without a terminal."""

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios
import time

import pytest

from host import processes, wait_until
from local import BINARY, spec

FAILS = spec(
    install=["PLAIN='of install'; export SHOWN=exported; mkdir made; cd made; echo one >one; echo tmp >/tmp/kept"],
    build={"commands": ["LATE=1; echo late >late; exit 7", "never"], "finally": ["rm late; echo finally"]},
    post_build=["echo post >post"],
)


@pytest.fixture(params=["root", "ordinary"])
def anyones_project(request):
    """An empty source folder of root, and one of an ordinary user."""
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("only root has folders of root")
    return request.getfixturevalue("project" if request.param == "root" else "ordinary_project")


class Person:
    """Somebody at a terminal."""

    def __init__(self, project, *words, cwd=None):
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
        environment = project.environment({"TERM": "xterm"})
        self.process = subprocess.Popen(
            project.as_user(*words),
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd or project.folder,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self.text = ""

    def sees(self, text, seconds=60):
        """Reads until `text` shows; forgets what came before it."""
        deadline = time.monotonic() + seconds
        while text not in self.text:
            assert time.monotonic() < deadline, f"{text!r} not in {self.text!r}"
            if select.select([self.ours], [], [], 0.2)[0]:
                try:
                    piece = os.read(self.ours, 65536)
                except OSError:
                    piece = b""
                assert piece or text in self.text, f"the end, and no {text!r} in {self.text!r}"
                self.text += piece.decode(errors="replace")
        before, _, self.text = self.text.partition(text)
        return before

    def types(self, text):
        os.write(self.ours, text.encode())

    def ends(self, code):
        deadline = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self.ours], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self.ours, 65536).decode(errors="replace")
                except OSError:
                    pass
        os.close(self.ours)
        assert self.process.wait(timeout=1) == code, self.text


def test_a_command_runs_in_the_environment_that_failed(anyones_project):
    project = anyones_project
    project.buildspec(FAILS)
    project.run().ended(1)
    said = project.say("shell", "--", "eval", 'echo "${PWD##*/} $PLAIN $SHOWN $(cat one /tmp/kept | tr "\\n" " ")"; ls; exit 5').ended(5)
    assert said.out.splitlines() == ["made of install exported one tmp ", "one"]
    # What a visitor does stays with the visitor.
    project.say("shell", "--", "rm", "one").ended(0)
    assert project.say("shell", "--", "ls").ended(0).out == "one\n"
    errors = project.say("shell", "--", "sh", "-c", "echo out; echo err >&2").ended(0)
    assert (errors.out, errors.err) == ("out\n", "err\n")


def test_the_folder_can_be_named_and_input_goes_in(project):
    project.buildspec(spec(build=["echo built >made"]))
    project.run().ended(0)
    done = subprocess.run(
        project.as_user("shell", "--folder", project.folder, "--", "cat", "made", "-"),
        input=b"typed", capture_output=True, env=project.environment(None), timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, b"built\ntyped"), done.stderr


def test_without_a_terminal_there_is_a_word_and_no_hang(project):
    project.buildspec(FAILS)
    assert "nothing is kept" in project.say("shell", "--", "true").ended(2).err
    ran = project.run("--shell-on-failure").ended(1)
    assert "no terminal" in ran.err and "finally" in ran.output
    assert "no terminal" in project.say("shell").ended(2).err
    assert "not running here" in project.say("shell", "p:0-0", "--", "true").ended(2).err
    assert "not a build id" in project.say("shell", "../x", "--", "true").ended(2).err


def test_a_person_types_into_the_environment_that_failed(anyones_project):
    project = anyones_project
    project.buildspec(FAILS)
    project.run().ended(1)
    traces = project.traces()
    person = Person(project, "shell")
    person.sees("made $ ")
    person.types("echo \"$PLAIN|$SHOWN|$TERM|$(stty size)|$(tty)\"\n")
    person.sees("of install|exported|xterm|33 101|/dev/pts/")
    person.sees("$ ")
    # Ctrl-C ends what runs in the shell, not the shell.
    person.types("sleep 1000; echo over-$?\n")
    person.sees("over-$?")
    wait_until(lambda: "sleep 1000 " in processes(project.folder.name).values(), "it sleeps")
    person.types("\x03")
    person.sees("$ ")
    fcntl.ioctl(person.ours, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 55, 0, 0))
    # Written so that what is typed is not what is waited for.
    person.types("until stty size | grep '44 5'5; do :; done\n")
    person.sees("44 55")
    person.types("exit 3\n")
    person.ends(3)
    traces.gone()


def test_a_shell_opens_where_a_command_failed_and_the_build_then_goes_on(project):
    project.buildspec(FAILS)
    traces = project.traces()
    person = Person(project, "run", str(project.folder), "--shell-on-failure")
    person.sees("made $ ")
    person.types("echo $LATE-$(cat late)\n")
    person.sees("1-late")
    person.types("exit 0\n")
    person.sees("finally")
    person.sees("Phase complete: BUILD State: FAILED")
    person.sees("Phase complete: POST_BUILD State: SUCCEEDED")
    person.ends(1)
    traces.gone()


def test_a_build_that_is_stopped_takes_the_shell_with_it(project):
    project.buildspec(FAILS)
    traces = project.traces()
    person = Person(project, "run", str(project.folder), "--shell-on-failure")
    person.sees("made $ ")
    person.process.terminate()
    person.ends(130)
    traces.gone()


def test_a_running_build_can_be_entered_any_number_of_times(project, tmp_path):
    project.buildspec(spec(install=["X=1; cd /tmp"], build=["echo here; until [ -e go ]; do sleep 0.05; done; echo gone on"]))
    log = tmp_path / "log"
    run = project.start(log=log)
    wait_until(lambda: "\nhere\n" in log.read_text(), "the build in BUILD")
    build = f"{project.folder.name}:{next((project.data / 'run').iterdir()).name}"
    enter = lambda *words: subprocess.run(  # noqa: E731
        project.as_user("shell", build, "--", *words), env=project.environment(None), stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    for _ in range(3):
        assert enter("eval", "echo $X $PWD").stdout == b"1 /tmp\n"
    assert enter("false").returncode == 1
    assert enter("touch", "go").returncode == 0
    assert run.wait(timeout=60) == 0
    assert "gone on" in log.read_text()
    assert b"not running" in enter("true").stderr


# Breakpoints

HELD = spec(
    install=["X=1"],
    build={"commands": ["echo before", "codebuild-breakpoint && echo after $(cat made)"], "run-as": "root"},
)


def test_a_breakpoint_is_passed_without_session_debugging(anyones_project):
    # BS-086
    anyones_project.buildspec(HELD | {"phases": HELD["phases"] | {"pre_build": {"commands": ["touch made"]}}})
    ran = anyones_project.run().ended(0)
    assert ran.output == ["before", "codebuild-breakpoint: session debugging is off, the build goes on", "after"]
    assert "session debugging is off" in anyones_project.say("shell", "--", "codebuild-resume").ended(1).err


@pytest.fixture
def held(project, tmp_path):
    """A build that is held at its breakpoint: the process, its log, its id, and what was there before it."""
    project.buildspec(HELD)
    traces = project.traces()
    log = tmp_path / "log"
    run = project.start("--debug", log=log)
    wait_until(lambda: "held at a breakpoint" in log.read_text(), "the build at its breakpoint")
    build = next(line for line in log.read_text().splitlines() if "held at a breakpoint" in line).split("`")[1].split()[-1]
    yield run, log, build
    traces.gone()


def test_a_breakpoint_holds_the_build_until_it_is_resumed_in_a_shell(project, held):
    # BS-086, LC-100
    run, log, build = held
    enter = lambda *words: subprocess.run(  # noqa: E731
        project.as_user("shell", build, "--", *words), env=project.environment(None), stdin=subprocess.DEVNULL, timeout=60
    )
    assert enter("eval", "echo $X >made").returncode == 0
    assert run.poll() is None
    assert enter("codebuild-resume").returncode == 0
    assert run.wait(timeout=60) == 0
    text = log.read_text()
    assert "The build was resumed" in text and "\nafter 1\n" in text


def test_a_build_that_is_held_can_be_stopped(held):
    # BS-086, LC-044
    run, log, _ = held
    run.terminate()
    assert run.wait(timeout=60) == 130
    assert "after" not in log.read_text().split("held at")[1].replace("codebuild-breakpoint && echo after", "")


def test_a_server_build_with_session_debugging_is_held_and_entered(codebuild, server, name):
    # BS-086, LC-100
    held = spec(build=["X=1", "codebuild-breakpoint; echo went on"])
    codebuild.create_project(name, json.dumps(held))
    build = codebuild.api.start_build(projectName=name, debugSessionEnabled=True)["build"]["id"]
    environment = {"BUILDYARD_DATA": str(server.data), "PATH": os.environ["PATH"]}
    enter = lambda *words: subprocess.run(  # noqa: E731
        [str(BINARY), "shell", build, "--", *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    wait_until(lambda: enter("eval", "echo $X").stdout == b"1\n", "a shell in the held build")
    wait_until(lambda: codebuild.build(build)["currentPhase"] == "BUILD", "the server has heard of it")
    wait_until(lambda: "breakpoint" in codebuild.log(codebuild.build(build)), "the breakpoint is in the log")
    assert enter("codebuild-resume").returncode == 0
    assert codebuild.wait(build)["buildStatus"] == "SUCCEEDED"
