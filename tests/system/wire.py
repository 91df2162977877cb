"""Signed requests byte by byte, for what no SDK would send; answers parsed by botocore against the model.

One connection, requests one after the other.
"""

import http.client
from dataclasses import dataclass

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.parsers import create_parser

import strict
from served import KEY_ID, REGION, SECRET


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

    def __init__(self, server, model):
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self._endpoint = f"{server.endpoint}/"
        self._signer = SigV4Auth(Credentials(KEY_ID, SECRET), "codebuild", REGION)
        self._model = model
        self._parser = create_parser("json")
        self._sent = 0

    def send(self, operation, body):
        """The answer to a request with this body."""
        status, headers, answer = self.exchange(operation, body)
        shape = self._model.operation_model(operation)
        whole = {"status_code": status, "headers": headers, "body": answer}
        parsed = self._parser.parse(whole, shape.output_shape)
        return Answer(status, answer, parsed, strict.faults(shape, status, headers, answer))

    def exchange(self, operation, body):
        """`(status, headers, body)` of the answer, unread."""
        # AP-001. The number keeps apart what is the same and sent within one second.
        self._sent += 1
        target = f"{self._model.metadata['targetPrefix']}.{operation}"
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": target,
            "Amz-Sdk-Invocation-Id": str(self._sent),
        }
        request = AWSRequest("POST", self._endpoint, headers=headers, data=body)
        self._signer.add_auth(request)
        self._connection.request("POST", "/", body=body, headers=dict(request.headers.items()))
        with self._connection.getresponse() as response:
            return response.status, dict(response.headers), response.read()

    def close(self):
        self._connection.close()
