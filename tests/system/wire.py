"""Signed requests byte by byte, for what no SDK would send; answers parsed by botocore against the model.

One connection, requests one after the other.
"""

import time
from dataclasses import dataclass

import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.parsers import create_parser

import strict
from mutants import MODEL
from served import IDLE_SECONDS, KEY_ID, REGION, SECRET


@dataclass(frozen=True)
class Answer:
    """An answer as it came, and as botocore understands it."""

    status: int
    body: bytes
    parsed: dict
    faults: list

    @property
    def accepted(self):
        return self.status == 200

    @property
    def code(self):
        return self.parsed.get("Error", {}).get("Code")

    def __str__(self):
        return f"{self.status} {self.body[:600].decode(errors='replace')}"


class Wire:
    """CodeBuild's endpoint without an SDK's opinion of what may be sent."""

    def __init__(self, server):
        self._port = server.port
        self._connect()
        self._endpoint = f"{server.endpoint}/"
        self._signer = SigV4Auth(Credentials(KEY_ID, SECRET), "codebuild", REGION)
        self._parser = create_parser("json")
        self._sent = 0

    def _connect(self):
        self._connection = urllib3.HTTPConnectionPool("127.0.0.1", self._port, maxsize=1, timeout=60)
        self._last = time.monotonic()

    def send(self, operation, body):
        """The answer to a request with this body."""
        status, headers, answer = self.exchange(operation, body)
        shape = MODEL.operation_model(operation)
        whole = {"status_code": status, "headers": headers, "body": answer}
        parsed = self._parser.parse(whole, shape.output_shape)
        return Answer(status, answer, parsed, strict.faults(shape, status, headers, answer))

    def exchange(self, operation, body):
        """`(status, headers, body)` of the answer, unread."""
        # AP-001. The number keeps apart what is the same and sent within one second.
        self._sent += 1
        target = f"{MODEL.metadata['targetPrefix']}.{operation}"
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": target,
            "Amz-Sdk-Invocation-Id": str(self._sent),
        }
        request = AWSRequest("POST", self._endpoint, headers=headers, data=body)
        self._signer.add_auth(request)
        signed = dict(request.headers.items())
        if time.monotonic() - self._last > IDLE_SECONDS:
            self.close()
            self._connect()
        self._last = time.monotonic()
        answer = self._connection.urlopen("POST", "/", body=body, headers=signed, retries=False)
        return answer.status, dict(answer.headers), answer.data

    def close(self):
        self._connection.close()
