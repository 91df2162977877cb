"""Runs `aws` command lines one after the other in one process, as starting the AWS CLI takes it most of a second.

A program of its own, for the Python that has the CLI, version 1 or 2: each line of its input is a list of arguments, and
each line of its output `[exit code, standard output, standard error]`. `AwsCli` is its other end.
"""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path


class AwsCli:
    """An AWS CLI that is pointed at a server."""

    def __init__(self, version, server, folder):
        # What a service's refusal ends a command with.
        self.refused = {"v1": 255, "v2": 254}[version]
        self._endpoint = server.endpoint
        self._process = subprocess.Popen(
            [pythons()[version], __file__],
            env=server.environment() | {"AWS_CONFIG_FILE": str(folder / "none"), "COLUMNS": "120"},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ended(self, *arguments):
        """`(exit code, standard output, standard error)` of a command."""
        self._process.stdin.write(json.dumps(["--endpoint-url", self._endpoint, *map(str, arguments)]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def __call__(self, *arguments):
        """What a command that succeeds prints, parsed where it is JSON."""
        code, out, err = self.ended(*arguments)
        assert (code, err) == (0, ""), f"aws {arguments}: {code}\n{out}\n{err}"
        return json.loads(out) if out.startswith(("{", "[")) else out

    def codebuild(self, *arguments):
        return self("codebuild", *arguments)

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def pythons():
    """`{version: Python}` of the AWS CLIs of this host: that of this environment, and Debian's, which is version 2."""
    found = {"v1": sys.executable}
    if Path("/usr/bin/aws").exists() and b"awscli" in Path("/usr/bin/aws").read_bytes():
        found["v2"] = "/usr/bin/python3"
    return found


def _answer_commands():
    import awscli.clidriver

    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        sys.stdout, sys.stderr, sys.argv = out, err, ["aws", *json.loads(line)]
        try:
            code = awscli.clidriver.create_clidriver().main(sys.argv[1:])
        except SystemExit as exit:
            code = exit.code
        texts = []
        for stream in (out, err):
            stream.flush()
            texts.append(stream.buffer.getvalue().decode())
        print(json.dumps([code or 0, *texts]), file=answers, flush=True)


if __name__ == "__main__":
    _answer_commands()
