"""A hunt for a secret, run as root inside a build: every place that a token of a source could have been left in.

Each place has a control: the same look finds a decoy that was put there. So a hunt that finds nothing has looked.
"""

import base64
import json
import re

SCRIPT = r'''
import glob, os, re, secrets, socket, subprocess, sys, threading
NEEDLE = "REVERSED"[::-1].encode()
LIMIT = 64 << 20
SRC, DATA, HOST = (os.environ[name] for name in ("CODEBUILD_SRC_DIR", "HUNT_DATA", "HUNT_HOST"))
HOME = os.path.expanduser("~")

# Looks: what there is to see in a place.

def read(*patterns):
    def look():
        for pattern in patterns:
            for path in glob.glob(pattern, recursive=True, include_hidden=True):
                if os.path.isfile(path):
                    try:
                        with open(path, "rb") as file:
                            yield path, file.read(LIMIT)
                    except OSError:
                        pass
    return look

def memory():
    for maps in glob.glob("/proc/[0-9]*/maps"):
        if maps == f"/proc/{os.getpid()}/maps":
            continue  # It knows what it looks for.
        try:
            ranges = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) rw.* (?:\[heap\]|\[stack\]|/memfd.*|0 *)$", open(maps).read(), re.M)
            with open(maps.replace("maps", "mem"), "rb") as file:
                for begin, end in ranges:
                    file.seek(int(begin, 16))
                    yield f"{maps} {begin}", file.read(min(int(end, 16) - int(begin, 16), LIMIT))
        except OSError:
            pass

def said(*command, asked=b""):
    def look():
        quiet = os.environ | {"GIT_TERMINAL_PROMPT": "0"}
        done = subprocess.run(command, input=asked, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, cwd=SRC, env=quiet)
        yield " ".join(command), done.stdout
    return look

def listeners():
    """What answers in this network, and at the address of builds' credentials."""
    ports = {80}
    for line in open("/proc/net/tcp").read().splitlines()[1:]:
        if line.split()[3] == "0A":
            ports.add(int(line.split()[1].split(":")[1], 16))
    paths = ["/", os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/"), "/latest/meta-data/"]
    for place in [("169.254.170.2", 80), *(("127.0.0.1", port) for port in ports)]:
        for path in paths:
            try:
                with socket.create_connection(place, 30) as connection:
                    connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {place[0]}\r\n\r\n".encode())
                    connection.settimeout(30)
                    yield f"{place} {path}", b"".join(iter(lambda: connection.recv(65536), b""))
            except OSError:
                pass

# Decoys: each puts one into a place, and gives what takes it out again.

def file(path):
    def plant(decoy):
        folder = os.path.dirname(path)
        os.makedirs(folder, exist_ok=True)
        with open(path, "w") as out:
            out.write(decoy)
        return lambda: os.remove(path)
    return plant

def process(make):
    """A process that lasts until it is told to end."""
    def plant(decoy):
        running = make(decoy)
        assert running.stdout.readline() == b"ready\n"
        return lambda: (running.stdin.close(), running.wait())
    return plant

def python(code, *arguments, **more):
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)

WAIT = "import sys; print('ready', flush=True); sys.stdin.read()"

def remembering(decoy):
    running = python("import sys; kept = sys.stdin.buffer.readline(); " + WAIT)
    running.stdin.write(decoy.encode() + b"\n")
    running.stdin.flush()
    return running

def holding(decoy):
    code = "import os, sys, tempfile; f = tempfile.TemporaryFile(); f.write(sys.stdin.buffer.readline()); f.flush(); " + WAIT
    running = python(code)
    running.stdin.write(decoy.encode() + b"\n")
    running.stdin.flush()
    return running

def git(*command, undo):
    def plant(decoy):
        run = lambda words: subprocess.run(["git", *(word.replace("DECOY", decoy) for word in words)], cwd=SRC, check=True, stdout=subprocess.DEVNULL, env=os.environ | WHO)
        run(command)
        return lambda: undo and run(undo)
    return plant

WHO = {f"GIT_{role}_{what}": "x@example" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

def blob(decoy):
    subprocess.run(["git", "hash-object", "-w", "--stdin"], cwd=SRC, check=True, input=decoy.encode(), stdout=subprocess.DEVNULL)
    return lambda: None

def variable(decoy):
    os.environ["DECOY"] = decoy
    return lambda: os.environ.pop("DECOY")

def server(decoy):
    listener = socket.create_server(("127.0.0.1", 0))
    def answer():
        try:
            while True:
                with listener.accept()[0] as connection:
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + decoy.encode())
        except OSError:
            pass
    threading.Thread(target=answer, daemon=True).start()
    return lambda: listener.shutdown(socket.SHUT_RDWR)

def named_socket(decoy):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(b"\0" + decoy.encode())
    return listener.close

PLACES = {
    "own environment": (lambda: [("environ", repr(os.environ).encode())], variable),
    "environments": (read("/proc/[0-9]*/environ"), process(lambda decoy: python(WAIT, env={"X": decoy}))),
    "command lines": (read("/proc/[0-9]*/cmdline"), process(lambda decoy: python(WAIT, decoy))),
    "descriptors": (read("/proc/[0-9]*/fd/*"), process(holding)),
    "memory": (memory, process(remembering)),
    "remote": (said("git", "remote", "-v"), git("remote", "add", "decoy", "https://DECOY@x/", undo=("remote", "remove", "decoy"))),
    "configuration": (said("git", "config", "--list", "--show-origin"), git("config", "decoy.token", "DECOY", undo=("config", "--unset", "decoy.token"))),
    "filled credential": (
        said("git", "credential", "fill", asked=f"protocol=https\nhost={HOST}\n\n".encode()),
        git("config", "credential.helper", "!echo username=x; echo password=DECOY", undo=("config", "--unset", "credential.helper")),
    ),
    "reflog": (said("git", "reflog", "--all"), git("update-ref", "--create-reflog", "-m", "DECOY", "refs/heads/decoy", "HEAD", undo=("update-ref", "-d", "refs/heads/decoy"))),
    "references": (said("git", "for-each-ref", "--format=%(refname) %(contents)"), git("tag", "-a", "-m", "DECOY", "decoy", undo=("tag", "-d", "decoy"))),
    "objects": (said("git", "cat-file", "--batch", "--batch-all-objects"), blob),
    ".git": (read(SRC + "/.git/**"), file(SRC + "/.git/decoy")),
    "hooks": (read(SRC + "/.git/hooks/**"), file(SRC + "/.git/hooks/decoy")),
    "work tree": (read(SRC + "/**"), file(SRC + "/decoy")),
    "other sources": (read("/codebuild/output/**"), file("/codebuild/output/src0/src/decoy")),
    "readonly": (read("/codebuild/readonly/**"), file("/codebuild/readonly/decoy")),
    "helpers": (read("/codebuild/user/bin/**"), file("/codebuild/user/bin/decoy")),
    "/codebuild": (read("/codebuild/**"), file("/codebuild/.decoy")),
    "home": (read("/root/**", "/home/**", HOME + "/**"), file(HOME + "/.decoy_history")),
    "git's own files": (read(HOME + "/.netrc", HOME + "/.git-credentials", HOME + "/.gitconfig", HOME + "/.config/git/*"), file(HOME + "/.git-credentials")),
    "ssh": (read("/root/.ssh/*", HOME + "/.ssh/*"), file(HOME + "/.ssh/decoy")),
    "temporary files": (read("/tmp/**", "/var/tmp/**"), file("/tmp/.decoy/deep")),
    "run": (read("/run/**", "/var/run/**"), file("/run/decoy")),
    "shared memory": (read("/dev/shm/**"), file("/dev/shm/decoy")),
    "fetch folder": (read("/fetch/**"), file("/fetch/decoy")),
    "settings": (read("/etc/**"), file("/etc/decoy")),
    "logs": (read("/var/log/**"), file("/var/log/decoy")),
    "spool": (read("/var/spool/**", "/var/mail/**"), file("/var/spool/decoy")),
    "caches": (read("/var/cache/**", HOME + "/.cache/**", "/codebuild/local-cache/**"), file("/var/cache/decoy/x")),
    "cores": (read("/core*", SRC + "/core*", "/var/lib/systemd/coredump/*", "/var/crash/*"), file("/core.1")),
    "swap": (lambda: read("/swap*", *(line.split()[0] for line in open("/proc/swaps").read().splitlines()[1:]))(), file("/swapfile")),
    "the server's data": (read(DATA + "/**", "/var/lib/buildyard/**"), file(DATA + "/builds/decoy/plan.json")),
    "roots of processes": (read("/proc/[0-9]*/root/fetch/**", "/proc/[0-9]*/cwd/*"), process(lambda decoy: (file("/tmp/where/decoy")(decoy), python(WAIT, cwd="/tmp/where"))[1])),
    "other disks": (read("/mnt/**", "/media/**", "/srv/**", "/opt/decoy*"), file("/srv/decoy")),
    "listeners": (listeners, server),
    "names of sockets": (read("/proc/net/unix"), named_socket),
}
for place, (look, _) in PLACES.items():
    for where, content in look():
        if NEEDLE in content:
            print("FOUND", place, where)
print("looked at", len(PLACES), "places")
seen = 0
for place, (look, plant) in PLACES.items():
    decoy = "decoy" + secrets.token_hex(20)
    try:
        undo = plant(decoy)
        found = any(decoy.encode() in content for _, content in look())
        undo()
    except Exception as error:
        found = print("BLIND", place, "because", repr(error))
    seen += 1 if found else print("BLIND", place) or 0
print("saw", seen, "decoys")
'''

HUNTER = "/codebuild/output/tmp/hunt.py"


def places():
    """The names of the places."""
    return re.findall(r'^    "([^"]+)": \(', SCRIPT, re.M)


def hunting(needle, commands=(), host="localhost", data="/nowhere"):
    """A buildspec that hunts, after some commands. The hunter must not find itself: it knows what it looks for backwards only."""
    script = base64.b64encode(SCRIPT.replace("REVERSED", needle[::-1]).encode()).decode()
    hunt = [f"echo {script} | base64 -d > {HUNTER}", f"python3 {HUNTER}"]
    variables = {"HUNT_HOST": host, "HUNT_DATA": str(data)}
    return json.dumps({"version": 0.2, "env": {"variables": variables}, "phases": {"build": {"commands": [*commands, *hunt]}}})


def nothing_found(log):
    """Whether the hunt went through, found nothing, and found every decoy."""
    many = len(places())
    assert many >= 25
    assert f"looked at {many} places" in log and "FOUND" not in log, log
    assert f"saw {many} decoys" in log and "BLIND" not in log, log
