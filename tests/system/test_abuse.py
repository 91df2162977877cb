"""Builds that take whatever they can get, and what the host, its other builds and the server notice of them; then many builds that
must leave nothing behind.

The whole forms are in CONTRIBUTING.md; `-s` shows the figures.
"""

import fcntl
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

import pytest

from host import wait_until
from local import spec
from served import Codebuild, Server, contexts, outcome

CONFIG = """
log_quota_mebibytes = 16
network = "{network}"

[compute_types]
BUILD_GENERAL1_SMALL = {{ vcpu = 1, memory = "300MB", disk = "200MB", processes = 300 }}
"""

# An ordinary user limits no more than processes.
UNPRIVILEGED = "compute_types.BUILD_GENERAL1_SMALL.processes = 300\n"

# Of the neighbour, on a processor of its own.
WORK = "python3 -c 'import time; b = time.perf_counter(); sum(range(12_000_000)); print(\"took\", time.perf_counter() - b)'"

PYTHON = "import ctypes, mmap, os, resource, signal, socket, sys, time\nlibc = ctypes.CDLL(None, use_errno=True)\n"

# Starts what ends over and over again: whoever is killed for memory, or has no process left, comes back.
AGAIN = """
import os, subprocess, time
while True:
    try:
        subprocess.run([os.environ["KIND"], "-c", os.environ["ABUSE"]], stderr=subprocess.DEVNULL)
    except OSError:
        pass
    time.sleep(0.01)
"""

ABUSERS = {
    "fork bomb": "f() { f | f & }; while :; do f 2>/dev/null; done",
    "memory": "while True:\n  try: kept = [bytearray(50_000_000) for _ in range(20)]\n  except MemoryError: pass",
    "memory of many": "for _ in range(7): os.fork()\nkept = []\nwhile True: kept.append(bytearray(1_000_000))",
    "files in memory": "n=0; while :; do n=$((n+1)); head -c 20000000 /dev/zero > /dev/shm/$n 2>/dev/null; done",
    "page cache": "while :; do head -c 150000000 /dev/zero > /tmp/dirty; sync; cat /tmp/dirty > /dev/null; done",
    "full disk": "while :; do cat /dev/zero >> /tmp/full 2>/dev/null; done",
    "many files": "n = 0\nwhile True:\n  n += 1\n  try: open(f'/tmp/{n}', 'w').close()\n  except OSError: time.sleep(0.01)",
    "descriptors": "for _ in range(7): os.fork()\nwhile True:\n  try: os.dup(0)\n  except OSError: time.sleep(0.01)",
    "terminals": "while True:\n  try: os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY)\n  except OSError: time.sleep(0.01)",
    "pipes": "import fcntl\nwhile True:\n  try:\n    r, w = os.pipe(); fcntl.fcntl(w, 1031, 1 << 20); os.write(w, bytes(1 << 20))\n"
    "  except OSError: time.sleep(0.01)",
    "shared memory": "libc.shmat.restype = ctypes.c_void_p\nwhile True:\n  number = libc.shmget(0, ctypes.c_size_t(10_000_000), 0o1600)\n"
    "  if number < 0: time.sleep(0.01)\n  else: ctypes.memset(libc.shmat(number, None, 0), 1, 10_000_000)",
    "watches": "fd = libc.inotify_init()\nn = 0\nwhile True:\n  n += 1\n  os.makedirs(f'/tmp/w/{n % 5000}', exist_ok=True)\n"
    "  libc.inotify_add_watch(fd if n % 100 else libc.inotify_init(), f'/tmp/w/{n % 5000}'.encode(), 0xfff)",
    "timers": "class T(ctypes.Structure): _fields_ = [(x, ctypes.c_long) for x in 'abcd']\n"
    "while True:\n  t = ctypes.c_void_p()\n  if libc.timer_create(1, None, ctypes.byref(t)): time.sleep(0.01)\n"
    "  else: libc.timer_settime(t, 0, ctypes.byref(T(0, 1000, 0, 1000)), None)\n  signal.signal(14, signal.SIG_IGN)",
    "sockets": "kept = []\nwhile True:\n  try: kept.append(socket.socketpair()); kept[-1][0].setblocking(False); kept[-1][0].send(bytes(100_000))\n"
    "  except OSError: time.sleep(0.01)",
    "deep folders": "while :; do mkdir -p aaaaaaaaaaaaaaaaaaaa 2>/dev/null && cd aaaaaaaaaaaaaaaaaaaa 2>/dev/null || cd /tmp; done",
    "links in a circle": "ln -sf /tmp/b /tmp/a; ln -sf /tmp/a /tmp/b; while :; do cat /tmp/a 2>/dev/null; done",
    "orphans that do not listen": "while :; do (trap '' TERM INT HUP; setsid sh -c 'trap \"\" TERM INT HUP; sleep 1000' &) 2>/dev/null; done",
    "log": "while :; do yes flood; done",
    "processors": "for n in 1 2 3 4 5 6 7 8; do (while :; do :; done) & done; wait",
    "messages": "n = 0\nwhile True:\n  n += 1\n  if libc.mq_open(b'/%d' % n, os.O_CREAT | os.O_RDWR, 0o600, None) < 0: time.sleep(0.01)",
    "semaphores": "while True:\n  if libc.semget(0, 200, 0o1600) < 0: time.sleep(0.01)",
    "keyrings": "n = 0\nwhile True:\n  n += 1\n  libc.syscall(248, b'user', b'%d' % n, bytes(1000), ctypes.c_size_t(1000), -3)",
    "connections": "l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen(1000)\nkept = []\nwhile True:\n"
    "  try: kept.append(socket.socket()); kept[-1].setblocking(False); kept[-1].connect_ex(l.getsockname())\n  except OSError: kept.clear()",
    "questions for names": "u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.setblocking(False)\nwhile True:\n"
    "  try: u.sendto(bytes(500), ('127.0.0.1', 53))\n  except OSError: pass",
    "priorities": "for _ in range(3): os.fork()\nfor wish in (lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99)), lambda: os.nice(-20)):\n"
    "  try: wish()\n  except OSError: pass\nwhile True: pass",
    "the kernel's log": "while :; do echo spam > /dev/kmsg; dmesg; done >/dev/null 2>&1",
    "locked memory": "while True:\n  try: m = mmap.mmap(-1, 50_000_000); libc.mlockall(3); m.write(bytes(50_000_000))\n  except OSError: time.sleep(0.01)",
    "zombies": "while True:\n  try:\n    if os.fork() == 0: os._exit(0)\n  except OSError: time.sleep(0.01)",
    "control groups": "while :; do for f in $(find /sys/fs/cgroup /proc/1/root/sys/fs/cgroup -name release_agent -o -name cgroup.procs); do echo 0 > $f; done; "
    "mkdir /sys/fs/cgroup/x; unshare -C true; done 2>/dev/null",
    "cores and sparse files": "open('/tmp/sparse', 'w').truncate(1 << 40)\nwhile True:\n  if os.fork() == 0:\n    os.abort()\n  os.wait()",
}
# Memory that belongs to nobody's process: the kernel kills until there is nobody left.
DIE = {"shared memory", "semaphores"}


def abuse(name):
    """A buildspec whose command says `abusing` and goes on until it is stopped."""
    text = ABUSERS[name]
    is_shell = text.startswith(("f()", "while :", "n=", "ln ", "for n in"))
    variables = {"KIND": "sh", "ABUSE": text} if is_shell else {"KIND": "python3", "ABUSE": PYTHON + text}
    commands = spec(build=['echo abusing; exec python3 -c "$AGAIN"'])
    return json.dumps(commands | {"env": {"variables": variables | {"AGAIN": AGAIN}}})


class Answers:
    """Seconds that something of the host's took."""

    def __init__(self):
        self.spawns, self.api = [], []


class Host:
    """A server for abusers, and what is measured beside them."""

    def __init__(self, server):
        self.server, self.codebuild = server, Codebuild(server)
        self.codebuild.create_project("neighbour", json.dumps(spec(build=[WORK])))
        for number, name in enumerate(ABUSERS):
            self.codebuild.create_project(f"abuser-{number}", abuse(name))
        self.honest, self.cleaned = [], []
        # By number of the abuser.
        self.beside = {number: [] for number in range(len(ABUSERS))}
        # How long programs of the host take to start and answers to come, beside honest work and beside abusers.
        self.calm, self.held = Answers(), Answers()

    def neighbour_of_honest_work(self):
        """Beside somebody who computes on one processor, as anybody may: where two processors share a core, that alone costs a lot."""
        with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as work:
            try:
                took = self.neighbour()
                self.look(self.calm)
                return took
            finally:
                work.kill()

    def neighbour(self):
        """Seconds that a build's work took, as it saw them itself."""
        build = self.codebuild.run("neighbour", 120)
        assert outcome(build)[0] == "SUCCEEDED", self.codebuild.log(build)
        (took,) = (line for line in self.codebuild.log(build).splitlines() if line.startswith("took "))
        return float(took.split()[1])

    def look(self, answers):
        """How long it takes to start a program of the host's, and to get an answer."""
        for _ in range(10):
            begun = time.perf_counter()
            subprocess.run(["/bin/true"], check=True)
            answers.spawns.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            self.codebuild.api.list_projects()
            answers.api.append(time.perf_counter() - begun)

    def abuse(self, number):
        self.honest.append(self.neighbour_of_honest_work())
        traces = self.server.traces()
        build = self.codebuild.start(f"abuser-{number}")["id"]
        wait_until(lambda: "abusing\n" in self.log_of(build), f"abuser {number} is at it")
        self.beside[number].append(self.neighbour())
        self.look(self.held)
        still = self.codebuild.build(build)
        assert not still["buildComplete"] or list(ABUSERS)[number] in DIE, self.log_of(build)
        begun = time.monotonic()
        self.codebuild.api.stop_build(id=build)
        ended = self.codebuild.wait(build)
        assert ended["buildStatus"] == ("FAILED" if still["buildComplete"] else "STOPPED")
        # LC-058: told of the container, if it was init that had to go, or of the command.
        why = json.dumps(contexts(ended))
        assert ended["buildStatus"] == "STOPPED" or "out of memory" in why or "exit status 137" in why, why
        traces.gone()
        self.cleaned.append(time.monotonic() - begun)

    def log_of(self, build):
        logs = self.codebuild.build(build)["logs"]
        if "streamName" not in logs:
            return ""
        place = {"logGroupName": logs["groupName"], "logStreamName": logs["streamName"]}
        events = self.codebuild.logs.get_log_events(**place, startFromHead=True)["events"]
        return "".join(event["message"] for event in events)


def median_ms(seconds):
    return statistics.median(seconds) * 1000


def p99_ms(seconds):
    return sorted(seconds)[int(len(seconds) * 0.99)] * 1000


@pytest.fixture
def make_host(make_server, tmp_path):
    """Makes a server whose builds are small and have that network."""

    def make(network, *flags):
        config = tmp_path / "buildyard.toml"
        config.write_text(CONFIG.format(network=network) if os.geteuid() == 0 else UNPRIVILEGED)
        return make_server("--config", str(config), *flags)

    return make


def test_abusers_are_held_and_their_neighbours_work_on(make_host, request):
    rounds = request.config.getoption("--abuse-rounds")
    host = Host(make_host("none", "--concurrent-builds", "4"))
    for _ in range(rounds):
        for number in range(len(ABUSERS)):
            host.abuse(number)
    honest = statistics.median(host.honest)
    slower = {name: statistics.median(host.beside[number]) / honest - 1 for number, name in enumerate(ABUSERS)}
    every = statistics.median(took for kind in host.beside.values() for took in kind) / honest - 1
    worst = max(slower, key=slower.get)
    print(
        f"\n{len(host.cleaned)} runs of {len(ABUSERS)} abusers: neighbour {median_ms(host.honest):.0f} ms beside honest work, "
        f"{every:+.0%} beside them, most beside {worst} ({slower[worst]:+.0%}); "
        f"a program starts within {median_ms(host.held.spawns):.1f} ms, p99 {p99_ms(host.held.spawns):.1f} (without them {p99_ms(host.calm.spawns):.1f}); "
        f"an answer takes {median_ms(host.held.api):.1f} ms, p99 {p99_ms(host.held.api):.1f} (without them {p99_ms(host.calm.api):.1f}); "
        f"gone after {median_ms(host.cleaned):.0f} ms, at most {max(host.cleaned) * 1000:.0f}"
    )
    assert every <= 0.25
    # One run is at the mercy of whatever else the host does; several have a median.
    if rounds >= 5:
        assert slower[worst] <= 0.25, slower
    else:
        too_slow = {name: host.beside[number] for number, name in enumerate(ABUSERS) if min(host.beside[number]) > 2 * max(host.honest)}
        assert not too_slow, (too_slow, host.honest)
    # What is allowed for is how long the host takes without them.
    assert p99_ms(host.held.spawns) <= 50 + p99_ms(host.calm.spawns)
    assert p99_ms(host.held.api) <= 200 + p99_ms(host.calm.api)
    assert max(host.cleaned) <= 10


class Kernel:
    """What the kernel holds for builds of one server, and what there was before."""

    def __init__(self, server):
        self.server = server
        self.before = self.now()

    def now(self):
        pid = self.server.process.pid
        return {
            "descriptors of the server": len(os.listdir(f"/proc/{pid}/fd")),
            "processes below the server": len(self.below(pid)),
            "interfaces": sum(not self.is_of_others(name) for name in os.listdir("/sys/class/net") if name.startswith("bldyrd")),
            "loop devices": sum(self.is_ours(path) for path in Path("/sys/block").glob("loop*/loop/backing_file")),
            "locks of ids that nobody holds": sum(self.is_free(path) for path in Path("/run/buildyard/ids").glob("*")),
            "files in builds": len([n for n in os.listdir(self.server.data / "builds") if not n.startswith(".")]),
            "namespaces": len({link for process in self.below(pid) for link in self.namespaces(process)}),
        }

    def is_ours(self, path):
        try:
            return str(self.server.data) in path.read_text()
        except OSError:
            return False

    def is_of_others(self, interface):
        """Whether a process that does not come from the server has the ids that the interface is named after."""
        try:
            inode = os.stat(f"/run/buildyard/ids/{interface.removeprefix('bldyrd')}").st_ino
        except OSError:
            return False
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines() if " FLOCK " in line and "->" not in line]
        holders = {words[4] for words in locks if words[5].endswith(f":{inode}")}
        holders = {pid for pid in holders if os.path.exists(f"/proc/{pid}")}
        return bool(holders) and not holders & set(self.below(self.server.process.pid))

    @staticmethod
    def is_free(path):
        try:
            with open(path) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
        except OSError:
            return False

    def below(self, pid):
        """Its descendants. Those that wait for a build are some of them."""
        try:
            threads = os.listdir(f"/proc/{pid}/task")
            listed = [Path(f"/proc/{pid}/task/{thread}/children").read_text().split() for thread in threads]
        except OSError:
            return []
        children = [child for some in listed for child in some]
        return children + [process for child in children for process in self.below(child)]

    @staticmethod
    def namespaces(pid):
        try:
            return [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in os.listdir(f"/proc/{pid}/ns")]
        except OSError:
            return []


def test_many_builds_leave_nothing_behind(make_host, request):
    builds = request.config.getoption("--leak-builds")
    server = make_host("egress", "--concurrent-builds", "4")
    codebuild = Codebuild(server)
    commands = ["echo x > /tmp/x; (sleep 100000 &); (setsid sleep 100000 &); mkdir -p a/b && touch a/b/c"]
    codebuild.create_project("leak", json.dumps(spec(build=commands)))
    # What is made once is there from here on.
    for build in [codebuild.start("leak")["id"] for _ in range(8)]:
        codebuild.wait(build)
    traces = server.traces()
    wait_until(lambda: server_is_idle(server) and len(server._idle_agents()) >= 6, "the server has nothing to do")
    kernel = Kernel(server)
    left, running = builds, []
    begun = time.monotonic()
    while left or running:
        while left and len(running) < 8:
            running.append(codebuild.start("leak")["id"])
            left -= 1
        ended = codebuild.wait(running.pop(0), 300)
        assert outcome(ended)[0] == "SUCCEEDED", ended
    took = time.monotonic() - begun
    traces.gone()

    def grown():
        now = kernel.now()
        return {what: (before, now[what]) for what, before in kernel.before.items() if now[what] > before}

    # The server keeps a few connections, and agents ready: two processes each, and more than usual where many began at once.
    allowed = {"descriptors of the server": 16, "processes below the server": 12}

    def too_many():
        return {what: (was, now) for what, (was, now) in grown().items() if now - was > allowed.get(what, 0)}

    wait_until(lambda: not too_many(), "nothing has grown")
    print(f"\n{builds} builds in {took:.0f} s left nothing behind; grown within what is kept: {grown()}")


def server_is_idle(server):
    """Its builds' folders are gone."""
    return not [name for name in os.listdir(server.data / "builds") if not name.startswith(".")]
