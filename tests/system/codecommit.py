"""CodeCommit as git sees it: an https server that lets in whoever signs as AWS's own credential helper does."""

import base64
import datetime
import os
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from gitserver import BACKEND, Repository

REGION = "eu-west-1"
KEY_ID, SECRET, TOKEN = "ASIAPULLS0EXAMPLE", "a/secret+of-the-role", "a/session+token=="
MINUTES = 15


def signature(host, path, time):
    """What the password is then."""
    signer = SigV4Auth(Credentials(KEY_ID, SECRET), "codecommit", REGION)
    request = AWSRequest(method="GIT", url=f"https://{host}{path}")
    request.context["timestamp"] = time
    canonical = f"GIT\n{path}\n\nhost:{host}\n\nhost\n"
    return f"{time}Z{signer.signature(signer.string_to_sign(request, canonical), request)}"


def is_let_in(username, password, host, path):
    time = password.split("Z")[0]
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.strptime(time, "%Y%m%dT%H%M%S").replace(tzinfo=datetime.UTC)
    return username == f"{KEY_ID}%{TOKEN}" and abs(age.total_seconds()) < MINUTES * 60 and password == signature(host, path, time)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server.of
        path, _, query = self.path.partition("?")
        repository = "/".join(path.split("/")[:4])
        kind, _, text = self.headers.get("Authorization", "").partition(" ")
        username, _, password = base64.b64decode(text).decode().partition(":")
        if kind != "Basic" or not is_let_in(username, password, "localhost", repository):
            server.refused += 1
            return self.answer(401 if kind != "Basic" else 403, [("WWW-Authenticate", 'Basic realm="codecommit"')], b"")
        server.used.add(password)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        environment = {
            "GIT_PROJECT_ROOT": str(server.folder / "repositories"),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH": os.environ["PATH"],
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        environment |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
        done = subprocess.run([BACKEND], input=body, env=environment, stdout=subprocess.PIPE, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n")]
        status = next((int(value[:3]) for name, value in headers if name == "Status"), 200)
        self.answer(status, [header for header in headers if header[0] != "Status"], content)

    do_POST = do_GET

    def answer(self, status, headers, content):
        self.send_response(status)
        for header in [*headers, ("Content-Length", str(len(content)))]:
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class CodeCommit:
    """Its certificate is the one of a git server."""

    def __init__(self, folder, git):
        self.folder = folder
        (folder / "repositories").mkdir()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(git.folder / "server.pem", git.folder / "server.key")
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.of = self
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.url = f"https://localhost:{self.http.server_address[1]}"
        self.used, self.refused = set(), 0
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def repository(self, name):
        return Repository(self, f"v1/repos/{name}")

    def stop(self):
        self.http.shutdown()
        self.http.server_close()
