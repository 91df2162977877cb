"""Images made by hand: a root file system that consists of busybox, and OCI layouts of folders."""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

LAYER = "application/vnd.oci.image.layer.v1.tar"
APPLETS = ["sh", "cat", "ls", "echo", "id", "mkdir", "rm", "wc", "head", "true", "test", "grep", "stat"]


def tool(*command, **settings):
    done = subprocess.run(command, capture_output=True, text=True, **settings)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def busybox_root(root, *applets):
    """A root file system that consists of busybox alone, with these applets too, and marks that only this image has."""
    for folder in ["bin", "etc", "tmp", "usr/bin"]:
        (root / folder).mkdir(parents=True)
    busybox = shutil.which("busybox")
    shutil.copy(busybox, root / "bin/busybox")
    for applet in {*APPLETS, *applets}:
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nmaker:x:1000:1000::/:/bin/sh\n")
    (root / "etc/mark").write_text("from the first layer\n")
    (root / "etc/removed").write_text("hidden by the second layer\n")


def docker_root(root):
    """A root file system that has Docker, from this host's programs and their libraries."""
    busybox_root(root, "sleep", "timeout", "tar", "cp", "mount", "modprobe", "ps", "env", "ip", "wget", "date")
    programs = ["dockerd", "docker", "docker-proxy", "containerd", "containerd-shim-runc-v2", "runc"]
    found = [shutil.which(program) for program in programs]
    firewall = os.path.realpath(shutil.which("iptables"))
    linked = subprocess.run(["ldd", *found, firewall], capture_output=True, text=True).stdout
    for path in {*found, firewall, *re.findall(r"(/\S+\.so\S*) \(", linked)}:
        target = root / ("usr/bin/" + os.path.basename(path) if path in found else path.lstrip("/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for name in ["iptables", "ip6tables", "iptables-save"]:
        (root / "usr/bin" / name).symlink_to(firewall)
    # Debian's busybox has none.
    (root / "bin/nohup").write_text("#!/bin/sh\ntrap '' HUP\nexec \"$@\"\n")
    (root / "bin/nohup").chmod(0o755)
    (extensions,) = Path("/usr/lib").glob("*/xtables")
    shutil.copytree(extensions, root / str(extensions).lstrip("/"))


def layout_of(root, layout, owner=0):
    """An OCI layout with one image, whose only layer is the folder `root` as it is, all of it `owner`'s; `None`: whose it is there."""
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(content, **more):
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"digest": f"sha256:{digest}", "size": len(content)} | more

    owners = [] if owner is None else [f"--owner={owner}", f"--group={owner}"]
    archive = ["tar", "--create", "--numeric-owner", *owners, "--directory", root, "."]
    layer = blob(subprocess.run(archive, capture_output=True, check=True).stdout, mediaType=LAYER)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
    config = {"os": "linux", "architecture": architecture, "config": {"Env": ["PATH=/bin:/usr/bin"]}, "rootfs": rootfs}
    config = blob(json.dumps(config).encode(), mediaType="application/vnd.oci.image.config.v1+json")
    manifest = {"schemaVersion": 2, "config": config, "layers": [layer]}
    manifest = blob(json.dumps(manifest).encode(), mediaType="application/vnd.oci.image.manifest.v1+json")
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return layout
