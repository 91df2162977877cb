"""What this host has running and mounted: whether a build left anything behind.

Only what can be ours is looked at (our binary, the data folder, cgroups named by a uuid), and nothing that processes of another
server or run are in, so other work on the host does not disturb the tests.

Patience is long, since a busy machine can hold a process up for seconds; where a time matters, it is compared with another.
"""

import contextlib
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

AGENT = re.compile(r"^buildyard-agent-(\d+)-")


def wait_until(condition, what, seconds=60.0, every=0.01):
    """The first true value of `condition()`; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(every)


def files_below(folder):
    """`(path, content)` of the files below a folder, while others may write and remove some."""
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            if path.is_file():
                yield path, _read(path)


def _read(path):
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def processes(text):
    """Living processes whose command line or environment holds `text`, as `{pid: command line}`."""
    needle = text.encode()
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        command = _read(f"/proc/{entry}/cmdline")
        if command and (needle in command or needle in _read(f"/proc/{entry}/environ")):
            found[int(entry)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def mounts(text):
    """Mount points of this host's namespace that mention `text`."""
    lines = _read("/proc/self/mountinfo").decode(errors="replace").splitlines()
    return [line for line in lines if text in line]


def cgroups():
    """Control groups named after a build, or after an agent: one that waits for its build has some."""
    found = set()
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        found.update(os.path.join(folder, name) for name in names if AGENT.search(name) or UUID.search(name))
    return found


def interfaces():
    """Of this host's network."""
    return set(os.listdir("/sys/class/net"))


def _is_waited_in(group):
    """Whether it is that of an agent that waits for a build: its server lives."""
    agent = AGENT.search(os.path.basename(group))
    return agent is not None and os.path.exists(f"/proc/{agent[1]}")


def _is_of_others(group, texts):
    """Whether somebody is at work in it who comes from a server or a run that has none of these texts."""
    pids = [int(pid) for folder, _, _ in os.walk(group) for pid in _read(f"{folder}/cgroup.procs").split()]
    return any(_runs_buildyard(pid) and not any(text in _told(pid) for text in texts) for pid in _with_ancestors(pids))


def _with_ancestors(pids):
    found, left = set(), list(pids)
    while left:
        pid = left.pop()
        if pid > 1 and pid not in found:
            found.add(pid)
            # What follows the name, which may hold anything: the state and the parent.
            left += [int(parent) for parent in _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1:2]]
    return found


def _runs_buildyard(pid):
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("buildyard")
    except OSError:
        return False


def _told(pid):
    """A process's command line and environment."""
    return _read(f"/proc/{pid}/cmdline") + b"\0" + _read(f"/proc/{pid}/environ")


def children(folder):
    """Builds that have something in a folder; none if there is no such folder."""
    with contextlib.suppress(FileNotFoundError):
        return {name for name in os.listdir(folder) if UUID.search(name)}
    return set()


@dataclass
class Traces:
    """Remembers what was there before builds ran; tells what is there that was not.

    `marks` are texts found in the command line or environment of every process of these builds, and in their mounts.
    `folders` are folders that hold one entry for each build while it runs.
    """

    marks: list
    folders: list = field(default_factory=list)

    def __post_init__(self):
        self._cgroups = cgroups()
        self._children = {folder: children(folder) for folder in self.folders}
        self._processes = {pid for mark in self.marks for pid in processes(mark)}

    def left(self):
        left = [f"cgroup {group}" for group in cgroups() - self._cgroups if not self._is_in_order(group)]
        for mark in self.marks:
            left += [f"mount {line}" for line in mounts(mark)]
            running = processes(mark)
            left += [f"process {pid} {line}" for pid, line in running.items() if pid not in self._processes]
        for folder, before in self._children.items():
            left += [f"folder {folder}/{name}" for name in children(folder) - before]
        return left

    def _is_in_order(self, group):
        # The folder of the builds lies in one that their agents have in their environment.
        texts = [os.path.dirname(mark.rstrip("/")) or mark for mark in self.marks]
        return _is_waited_in(group) or _is_of_others(group, [text.encode() for text in texts])

    def gone(self, seconds=60.0):
        """Fails unless everything is gone within `seconds`."""
        deadline = time.monotonic() + seconds
        while left := self.left():
            assert time.monotonic() < deadline, "left behind:\n" + "\n".join(left)
            time.sleep(0.02)
