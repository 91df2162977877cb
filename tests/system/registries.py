"""A registry that misbehaves: it has one image, and says how its blobs come."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Registry:
    """Serves the image of an OCI layout under each name and tag. `content(digest, bytes)` yields what comes of a blob, piece by piece, whatever was announced."""

    def __init__(self, layout, content=lambda digest, content: [content], manifest=lambda manifest: manifest):
        blobs = layout / "blobs/sha256"
        index = json.loads((layout / "index.json").read_text())
        first = blobs / index["manifests"][-1]["digest"].removeprefix("sha256:")
        self.manifest = manifest(first.read_bytes())
        self.asked = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                registry.asked.append(self.path)
                _, _, kind, name = self.path.rsplit("/", 3)
                self.send_response(200)
                whole = registry.manifest if kind == "manifests" else (blobs / name.removeprefix("sha256:")).read_bytes()
                self.send_header("Content-Length", str(len(whole)))
                self.send_header("Connection", "close")
                self.end_headers()
                for piece in [whole] if kind == "manifests" else content(name, whole):
                    self.wfile.write(piece)

            def log_message(self, *_):
                pass

            def handle_one_request(self):
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def blobs_asked(self):
        return [path for path in list(self.asked) if "/blobs/" in path]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def dripping(stopped):
    """The content of a registry that sends a byte now and then until `stopped`, an event, is set."""

    def content(_, whole):
        for at in range(len(whole)):
            yield whole[at : at + 1]
            if stopped.wait(0.2):
                return

    return content
