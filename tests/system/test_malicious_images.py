"""Images whose own links stand where a container's devices, processes and masks go, run as root and as an ordinary user."""

import os
import subprocess
from pathlib import Path

import pytest

from local import spec
from oci import busybox_root, layout_of

# What the image has there instead, and where that leads from the image's own root and from the host's.
IMAGES = {
    "dev": ("dev", "{outside}"),
    "proc": ("proc", "../../../../../../../../..{outside}"),
    "sys": ("sys", "/"),
    "passwd": ("etc/passwd", "../../../../../../../../..{outside}/treasure"),
    "null": ("dev/null", "/proc/sys/kernel/core_pattern"),
    "pts": ("dev/pts", "/proc/sys"),
}

LOOKS = [
    # The devices, the processes and the masks are the container's own.
    "stat -L -c '%F %t:%T' /dev/null; echo gone > /dev/null; wc -c < /dev/null",
    "grep -c ' /proc proc ' /proc/self/mounts; stat -f -c %T /dev/pts",
    "cat /proc/self/comm",
    # What the container hides or may not change is so.
    "wc -c < /proc/kcore || echo refused",
    "echo harm > /proc/sys/kernel/core_pattern || echo refused",
    "echo b > /proc/sysrq-trigger || echo refused",
    "echo harm > /sys/kernel/uevent_helper || echo refused",
    "cat /etc/passwd || echo unreadable",
    "cat /treasure /dev/treasure /proc/treasure || true",
]


@pytest.mark.parametrize("who", ["root", "ordinary"])
@pytest.mark.parametrize("image", IMAGES)
def test_a_link_in_the_place_of_a_mount_does_no_harm(request, image, who, tmp_path):
    project = request.getfixturevalue("project" if who == "root" else "ordinary_project")
    outside = (project.home if who == "ordinary" else tmp_path) / "outside"
    outside.mkdir()
    (outside / "treasure").write_text("treasure of the host\n")
    place, target = IMAGES[image]
    root = tmp_path / "root"
    busybox_root(root)
    (root / place).unlink(missing_ok=True)
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).symlink_to(target.format(outside=outside))
    layout = layout_of(root, outside.parent / "layout")
    subprocess.run(["chmod", "-R", "a+rwX", outside.parent / "layout", outside], check=True)

    def unread(path):  # all but the time of access, which reading the file here moves
        kept = os.lstat(path)
        return kept.st_ino, kept.st_mode, kept.st_nlink, kept.st_uid, kept.st_gid, kept.st_mtime_ns, kept.st_ctime_ns

    def state():
        found = {path: (unread(path), path.read_bytes()) for path in outside.iterdir()}
        watched = ["/proc/sys/kernel/core_pattern", "/sys/kernel/uevent_helper", "/etc/passwd"]
        return found, [Path(path).read_bytes() for path in watched if os.path.exists(path)], os.lstat("/dev/null").st_rdev

    before = state()
    project.buildspec(spec(build=LOOKS))
    ran = project.run("--image", layout).ended(0)
    assert "treasure of" not in ran.out and state() == before
    assert ran.output[:2] == ["character special file 1:3", "0"]
    assert ran.output[2:4] == ["1", "devpts"]
    assert "root:x:0:0" in ran.out or image == "passwd"
    assert ran.output.count("refused") >= 3, ran.out
