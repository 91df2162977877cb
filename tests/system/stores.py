"""Stores that are not the server's own, as separate processes, and the process that speaks to them."""

import json
import os
import socket
import subprocess
import sys

import boto3
from botocore.config import Config

from host import wait_until
from local import BINARY
from served import REGION, free_port

KEY_ID = "AKIDELSEWHERE0000001"
SECRET = "elsewhere/secret+000000000000000000000000"


class Moto:
    """An S3 store of another make."""

    def __init__(self, folder):
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        log = open(folder / "moto.log", "wb")
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._answers, f"moto on {self.port}", 120, 0.05)

    def _answers(self):
        assert self.process.poll() is None, "moto ended"
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def client(self):
        return s3_client(self.endpoint, KEY_ID, SECRET)

    def stop(self):
        self.process.kill()
        self.process.wait()


def s3_client(endpoint, key_id, secret):
    config = Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"})
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name=REGION, aws_access_key_id=key_id, aws_secret_access_key=secret, config=config
    )


def s3_toml(endpoint, key_id=KEY_ID, secret=SECRET, **more):
    """The `[s3]` of a configuration."""
    values = {"endpoint": endpoint, "access_key_id": key_id, "secret_access_key": secret, "timeout_seconds": 1} | more
    return "[s3]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


class Transfers:
    """One process that moves objects to or from one file, asked as an agent asks it."""

    def __init__(self, folder, endpoint, key_id=KEY_ID, secret=SECRET, patience=1):
        settings = folder / "s3.json"
        told = {"endpoint": endpoint, "region": REGION, "buckets": [], "path_style": True, "access_key_id": key_id}
        told |= {"secret_access_key": secret, "session_token": None, "timeout_seconds": patience, "encryption": "none"}
        settings.write_text(json.dumps(told))
        self.file = open(folder / "content", "w+b", buffering=0)
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(300)
        command = [str(BINARY), "transfer", str(settings)]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=self.file, env=os.environ)
        theirs.close()

    def ask(self, request):
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        return self.answer()

    def answer(self):
        heard = b""
        while not heard.endswith(b"\n"):
            piece = self.socket.recv(1 << 16)
            assert piece, "the process has ended"
            heard += piece
        return json.loads(heard)

    def put(self, bucket, contents):
        """Objects of these contents, by key."""
        self.file.truncate(0)
        puts, offset = [], 0
        for key, content in contents.items():
            os.pwrite(self.file.fileno(), content, offset)
            put = {"bucket": bucket, "key": key, "offset": offset, "size": len(content), "metadata": {}}
            puts.append(put | {"only_new": False, "encryption_key": None})
            offset += len(content)
        return self.ask({"Put": puts})

    def get(self, bucket, key, version=None):
        """The answer and the content."""
        answer = self.ask({"Get": {"bucket": bucket, "key": key, "version": version}})
        return answer, os.pread(self.file.fileno(), 1 << 30, 0)

    def stop(self):
        self.socket.close()
        code = self.process.wait(timeout=60)
        self.file.close()
        return code
