"""`buildyard run` as a user at a terminal has it: source folders, runs, and what a run printed."""

import json
import os
import re
import shutil
import signal
import subprocess
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path

from host import Traces, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("BUILDYARD", REPOSITORY / "target/release/buildyard")).resolve()

SERVICE_LINE = re.compile(r"^\[Container\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} (.*)$")


@dataclass
class Ran:
    """How a local build ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def service_lines(self):
        """What CodeBuild itself says in the log, without its times."""
        matches = (SERVICE_LINE.match(line) for line in self.out.split("\n"))
        return [match[1] for match in matches if match]

    @property
    def output(self):
        """What the commands printed: the log without service lines and without the empty lines around commands."""
        lines = self.out.split("\n")
        return [line for line in lines if line and not line.startswith("[Container] ")]

    def phases(self):
        """`{phase: state}` of the phases that the log says are complete."""
        ends = (re.match(r"Phase complete: (\w+) State: (\w+)$", line) for line in self.service_lines)
        return {end[1]: end[2] for end in ends if end}

    def contexts(self):
        """`(status code, message)` of each complete phase that has a context with a code."""
        told = (re.match(r"Phase context status code: (.+?) Message: (.*)$", line) for line in self.service_lines)
        return [(match[1], match[2]) for match in told if match and match[1].strip()]

    def ended(self, code):
        """This run, if it ended with `code`."""
        assert self.code == code, f"exit code {self.code}, not {code}\n--- out\n{self.out}\n--- err\n{self.err}"
        return self


def spec(**phases):
    """A buildspec 0.2 as a value; `spec(build=["make"])`. A phase may be a list of commands or a whole phase."""
    named = {name: {"commands": phase} if isinstance(phase, list) else phase for name, phase in phases.items()}
    return {"version": 0.2, "phases": named}


class Project:
    """A source folder of the test's own making."""

    def __init__(self, folder, user=None, binary=BINARY):
        self.folder = Path(folder) / f"p{uuid.uuid4().hex[:12]}"
        self.folder.mkdir(parents=True)
        self.user = user
        self.binary = binary
        self.home = None
        # What shows the host to it as the test wants it.
        self.surroundings = []

    def write(self, name, content, mode=None):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        if mode is not None:
            path.chmod(mode)
        return path

    def buildspec(self, value, name="buildspec.yml"):
        """Text as it is; anything else as JSON, which is YAML too."""
        return self.write(name, value if isinstance(value, (str, bytes)) else json.dumps(value, indent=1))

    @property
    def artifacts(self):
        return self.folder / ".buildyard/artifacts"

    def environment(self, given):
        environment = os.environ | {"BUILDYARD_DATA": str(self.data)}
        if self.home:
            environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.home)}
        environment.pop("NO_COLOR", None)
        return environment | (given or {})

    def command(self, arguments):
        return self.as_user("run", self.folder, *arguments)

    def as_user(self, *words):
        """A command line of buildyard, for whoever the project belongs to."""
        command = [str(self.binary), *map(str, words)]
        if self.user is not None:
            identity = ["--reuid", str(self.user), "--regid", str(self.user), "--clear-groups"]
            command = ["setpriv", *identity, "--", *command]
        return [*self.surroundings, *command]

    @property
    def data(self):
        """Where local builds keep what they need while they run."""
        if self.home:
            return Path(self.home) / ".local/share/buildyard"
        return self.folder.parent / "data"

    def traces(self):
        return Traces([self.folder.name, f"{self.data}/run/"], [self.data / "run"])

    def run(self, *arguments, env=None, timeout=300, cwd=None, prefix=()):
        """Runs the build to its end and checks that nothing of it is left on the host."""
        traces = self.traces()
        done = subprocess.run(
            [*prefix, *self.command(arguments)],
            env=self.environment(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
        )
        traces.gone()
        return Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def say(self, *words, env=None, timeout=120, cwd=None):
        """Another command of buildyard in this folder; it says something and leaves nothing behind."""
        traces = self.traces()
        done = subprocess.run(
            self.as_user(*words),
            env=self.environment(env),
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
        )
        traces.gone()
        return Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def start(self, *arguments, log):
        """A build in the background; its log goes to the file `log`."""
        with open(log, "wb") as out:
            return subprocess.Popen(
                self.command(arguments),
                env=self.environment(None),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def interrupt_when(process, log, text, number=signal.SIGINT):
    """Sends the signal once the log holds `text`; returns the exit code."""
    wait_until(lambda: text in Path(log).read_text(errors="replace"), f"{text!r} in the log")
    process.send_signal(number)
    return process.wait(timeout=60)


def zipped(folder, target):
    """The folder's files as a ZIP with nothing around them (EN-087), modes kept."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return Path(target)


def files(folder):
    """Relative paths of all files and links below a folder."""
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if not path.is_dir())


def copy_tree(source, target):
    shutil.copytree(source, target, symlinks=True)
    return Path(target)
