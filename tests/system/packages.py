"""Fetching packages from their registries, by their own clients."""

import subprocess
import tarfile


def fetch(*command, cwd):
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


def unpack(archive, target):
    """The archive's only folder becomes `target`."""
    with tarfile.open(archive) as opened:
        opened.extractall(target.parent / "unpacked", filter="data")
    (unpacked,) = (target.parent / "unpacked").iterdir()
    unpacked.rename(target)
