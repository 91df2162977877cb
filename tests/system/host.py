"""What this host has running and mounted: whether a build left anything behind.

Only what can be ours is looked at (our binary, the data folder, cgroups named by a uuid), so other work on the host
does not disturb the tests.
"""

import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

AGENT = re.compile(r"^buildyard-agent-(\d+)-")


def wait_until(condition, what, seconds=20.0, every=0.01):
    """The first true value of `condition()`; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(every)


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
    """Control groups named after a build, or for an agent of a server that is no more: one that waits for its build has some."""
    found = set()
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        found.update(os.path.join(folder, name) for name in names if _is_of_a_build(name))
    return found


def interfaces():
    """Of this host's network."""
    return set(os.listdir("/sys/class/net"))


def _is_of_a_build(name):
    agent = AGENT.search(name)
    return not os.path.exists(f"/proc/{agent[1]}") if agent else UUID.search(name) is not None


def children(folder):
    """Builds that have something in a folder; none if there is no such folder."""
    return {name for name in os.listdir(folder) if UUID.search(name)} if Path(folder).is_dir() else set()


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
        left = [f"cgroup {group}" for group in cgroups() - self._cgroups]
        for mark in self.marks:
            left += [f"mount {line}" for line in mounts(mark)]
            running = processes(mark)
            left += [f"process {pid} {line}" for pid, line in running.items() if pid not in self._processes]
        for folder, before in self._children.items():
            left += [f"folder {folder}/{name}" for name in children(folder) - before]
        return left

    def gone(self, seconds=10.0):
        """Fails unless everything is gone within `seconds`."""
        deadline = time.monotonic() + seconds
        while left := self.left():
            assert time.monotonic() < deadline, "left behind:\n" + "\n".join(left)
            time.sleep(0.02)
