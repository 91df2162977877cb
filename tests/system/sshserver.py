"""A git server over ssh of the tests' own: a real sshd on a port of its own, with its own host key and one key that it lets in."""

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from gitserver import Repository, quietly
from host import wait_until
from served import free_port

SSHD = "/usr/sbin/sshd"

CONFIGURATION = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
SetEnv GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=*
"""


def make_key(path, *more):
    quietly("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", path, *more)
    return Path(path)


class SshServer:
    """The repositories' URLs name the user who runs the tests: nobody else can be let in without a password database."""

    def __init__(self, folder):
        if not os.access(SSHD, os.X_OK):
            pytest.skip(f"{SSHD} is not there: install openssh-server")
        self.folder = Path(folder)
        (self.folder / "repositories").mkdir()
        self.port = free_port()
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.url = f"ssh://{self.user}@localhost:{self.port}{self.folder}/repositories"
        make_key(self.folder / "host_key")
        self.key = make_key(self.folder / "id_ed25519")
        (self.folder / "authorized_keys").write_text(Path(f"{self.key}.pub").read_text())
        self.known_hosts = self.known(self.folder / "known_hosts", self.folder / "host_key.pub")
        (self.folder / "sshd_config").write_text(CONFIGURATION.format(port=self.port, folder=self.folder))

    def known(self, path, key):
        path.write_text(f"[localhost]:{self.port} {key.read_text()}")
        return path

    def start(self):
        # It wants an empty folder of this name, which a service's start would make.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.log = self.folder / "sshd.log"
        command = [SSHD, "-D", "-f", str(self.folder / "sshd_config"), "-E", str(self.log)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        wait_until(lambda: self.log.exists() and "Server listening" in self.log.read_text(), f"sshd; {self.log}")
        return self

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def repository(self, path):
        return Repository(self, path)
