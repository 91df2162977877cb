"""A proxy of ours before an S3 store, which does to answers what networks and stores do: one fault a request, or none."""

import http.client
import random
import socket
import struct
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_DOWN = (503, "SlowDown", "Please reduce your request rate.")
INTERNAL = (500, "InternalError", "We encountered an internal error. Please try again.")
DENIED = (403, "AccessDenied", "Access Denied")
SKEWED = (403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")

# What can be done to a request.
FAULTS = {
    "500": "the store's own fault, nothing done",
    "slow-down": "503, nothing done",
    "reset": "the connection is reset in the middle of the answer's body",
    "truncated": "the answer ends before its length",
    "error-in-200": "a success that holds an error, nothing done",
    "late": "the answer comes after the client's patience",
    "black-hole": "no answer at all",
    "corrupted": "a byte of the answer's body is another one",
    "lost-answer": "the request is carried out, its answer lost",
    "wrong-etag": "the ETag is another one",
    "absent": "an object that is there is said not to be",
    "lost-request": "the connection is reset before anything was done",
}


class Proxy:
    """Faults come from `choose(method, path)`, which names one of the above, an error of `ERRORS` to be answered, or nothing."""

    def __init__(self, upstream, patience=1.0):
        self.upstream = upstream
        self.patience = patience
        self.choose = lambda method, path: None
        self.made = []
        self.seen = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def handle_one_request(self):
                try:
                    super().handle_one_request()
                except (ConnectionError, BrokenPipeError, ValueError):
                    self.close_connection = True

            def answer(self):
                proxy._answer(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                """Clients that hang up are what this is for."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def at_random(self, seed, rate, faults=tuple(FAULTS)):
        """One of these faults with this probability, the same ones for the same seed and order of requests."""
        chance, lock = random.Random(seed), threading.Lock()

        def choose(_method, _path):
            with lock:
                return chance.choice(faults) if chance.random() < rate else None

        self.choose = choose

    def once(self, fault, when, times=1):
        """This fault for the first requests of which `when(method, path)` is true."""
        left, lock = [times], threading.Lock()

        def choose(method, path):
            with lock:
                if left[0] and when(method, path):
                    left[0] -= 1
                    return fault
            return None

        self.choose = choose

    def _answer(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        fault = self.choose(request.command, request.path)
        self.seen.append((request.command, request.path, fault))
        if fault:
            self.made.append(fault)
        if fault in ("500", "slow-down"):
            return self._error(request, *(INTERNAL if fault == "500" else SLOW_DOWN))
        if isinstance(fault, tuple):
            return self._error(request, *fault)
        if fault == "error-in-200":
            return self._error(request, 200, *INTERNAL[1:])
        if fault == "lost-request":
            return self._reset(request)
        if fault == "black-hole":
            request.connection.settimeout(600)
            return self._wait_for_hangup(request)
        status, headers, content = self._forward(request, body)
        if fault == "late":
            time.sleep(1.3 * self.patience)
        if fault == "lost-answer":
            return self._reset(request)
        if fault == "absent" and request.command in ("HEAD", "GET") and "?" not in request.path:
            return self._error(request, 404, "NoSuchKey", "The specified key does not exist.")
        if fault == "wrong-etag":
            headers = [(name, f'"{"0" * 32}"' if name.lower() == "etag" else value) for name, value in headers]
        if fault == "corrupted" and content:
            content = content[:-1] + bytes([content[-1] ^ 1])
        sent = content[: len(content) // 2] if fault in ("reset", "truncated") else content
        self._send(request, status, headers, len(content), sent)
        if len(sent) < len(content) or fault in ("reset", "truncated"):
            self._reset(request) if fault == "reset" else self._close(request)

    def _forward(self, request, body):
        """What the store answers. It sees the request as it was signed."""
        upstream = http.client.HTTPConnection(self.upstream.removeprefix("http://"), timeout=120)
        upstream.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers.items():
            if name.lower() != "connection":
                upstream.putheader(name, value)
        upstream.endheaders(body)
        answer = upstream.getresponse()
        content = answer.read()
        headers = [pair for pair in answer.getheaders() if pair[0].lower() not in ("connection", "transfer-encoding")]
        upstream.close()
        return answer.status, headers, content

    def _send(self, request, status, headers, length, sent):
        lines = [f"HTTP/1.1 {status} x"]
        is_head = request.command == "HEAD"
        lines += [f"{name}: {value}" for name, value in headers if is_head or name.lower() != "content-length"]
        lines += [] if is_head or status == 204 else [f"Content-Length: {length}"]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        request.connection.sendall(head if is_head else head + sent)

    def _error(self, request, status, code, message):
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        self._send(request, status, [("Content-Type", "application/xml"), ("Date", formatdate(usegmt=True))], len(body), body)

    def _reset(self, request):
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.close_connection = True
        request.connection.close()

    def _close(self, request):
        request.close_connection = True
        request.connection.shutdown(socket.SHUT_RDWR)

    def _wait_for_hangup(self, request):
        request.close_connection = True
        try:
            request.connection.recv(1)
        except OSError:
            pass
