"""A git server of the tests' own: nginx with git-http-backend over https, a private authority, repositories with and without a password."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from host import wait_until
from served import free_port

USER, PASSWORD = "x-access-token", "ghp-0123456789-the-token-of-the-system-tests"
NGINX, FCGIWRAP, BACKEND = "/usr/sbin/nginx", "/usr/sbin/fcgiwrap", "/usr/lib/git-core/git-http-backend"
PACKAGES = {NGINX: "nginx-light", FCGIWRAP: "fcgiwrap", BACKEND: "git"}

CONFIGURATION = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ }}
http {{
    access_log {folder}/access.log; client_max_body_size 0;
    client_body_temp_path {folder}/body; fastcgi_temp_path {folder}/fastcgi; proxy_temp_path {folder}/proxy;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen {address}:{port} ssl; ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;
        location /redirect/ {{ return 302 https://127.0.0.1:{port}/public/$uri; }}
        location /private/ {{ auth_basic git; auth_basic_user_file {folder}/passwords; include {folder}/git.conf; }}
        location / {{ include {folder}/git.conf; }}
    }}
}}
"""
GIT = """
fastcgi_pass unix:{folder}/fcgi.sock; fastcgi_param SCRIPT_FILENAME {backend}; fastcgi_param GIT_PROJECT_ROOT {folder}/repositories;
fastcgi_param GIT_HTTP_EXPORT_ALL 1; fastcgi_param PATH_INFO $uri; fastcgi_param QUERY_STRING $query_string;
fastcgi_param REQUEST_METHOD $request_method; fastcgi_param CONTENT_TYPE $content_type; fastcgi_param CONTENT_LENGTH $content_length;
fastcgi_param REMOTE_USER $remote_user; fastcgi_param REMOTE_ADDR $remote_addr; fastcgi_param GIT_PROTOCOL $http_git_protocol;
fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;
"""


def quietly(*command, **more):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


class Repository:
    """A bare repository that is served, and a folder to write it from."""

    def __init__(self, server, path):
        self.server, self.path = server, path
        self.bare = server.folder / "repositories" / path
        self.work = server.folder / "work" / path
        self.url = f"{server.url}/{path}"
        self.git("init", "--quiet", "--bare", "--initial-branch=main", self.bare, cwd="/")
        self.git("config", "uploadpack.allowAnySHA1InWant", "false", cwd=self.bare)
        self.git("init", "--quiet", "--initial-branch=main", self.work, cwd="/")

    def git(self, *arguments, cwd=None, **more):
        ours = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "PATH": os.environ["PATH"], "HOME": "/nonexistent"}
        who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "t"), ("EMAIL", "t@t.example"))}
        return quietly("git", "-c", "safe.directory=*", "-c", "protocol.file.allow=always", *arguments, cwd=cwd or self.work, env=ours | who, **more).strip()

    def commit(self, branch="main", **files):
        """Commits files, named with `__` for a slash and `_` for a dot, on a branch and pushes it; the commit's id."""
        for name, text in files.items():
            path = self.work / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "a commit")
        return self.push(f"HEAD:refs/heads/{branch}")

    def push(self, *references):
        self.git("push", "--quiet", "--force", self.bare, *references)
        self.git("update-server-info", cwd=self.bare)
        return self.git("rev-parse", "HEAD")


class GitServer:
    def __init__(self, folder, address=None):
        for program, package in PACKAGES.items():
            if not os.access(program, os.X_OK):
                pytest.skip(f"{program} is not there: install {package}")
        self.folder = Path(folder)
        (self.folder / "repositories").mkdir()
        self.port = free_port()
        self.address = address or "127.0.0.1"
        self.url = f"https://{address or 'localhost'}:{self.port}"
        self.processes = []
        self.asked = 0
        self._certificates()
        hashed = quietly("openssl", "passwd", "-apr1", PASSWORD).strip()
        (self.folder / "passwords").write_text(f"{USER}:{hashed}\n")
        (self.folder / "git.conf").write_text(GIT.format(folder=self.folder, backend=BACKEND))
        (self.folder / "nginx.conf").write_text(CONFIGURATION.format(folder=self.folder, port=self.port, address=self.address))

    def _certificates(self):
        run = lambda *arguments: quietly("openssl", *arguments, cwd=self.folder)
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650")
        run("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=tests")
        run("req", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
        (self.folder / "names").write_text(f"subjectAltName=DNS:localhost,IP:{self.address}\n")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "3650", "-extfile", "names")
        run("x509", "-req", "-in", "server.csr", *signed, "-out", "server.pem")
        self.authority = self.folder / "ca.pem"

    def start(self):
        # The repositories are root's, and so is the backend; git would suspect any other.
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "GIT_CONFIG_COUNT": "1"}
        environment |= {"GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
        sock = self.folder / "fcgi.sock"
        fcgi = [FCGIWRAP, "-c", "4", "-s", f"unix:{sock}"]
        log = open(self.folder / "fcgi.log", "ab")
        # Its helpers do not end with it.
        self.processes.append(subprocess.Popen(fcgi, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True))
        wait_until(sock.exists, "fcgiwrap listens")
        sock.chmod(0o777)
        nginx = [NGINX, "-p", str(self.folder), "-e", str(self.folder / "error.log"), "-c", str(self.folder / "nginx.conf")]
        self.processes.append(subprocess.Popen(nginx, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True))
        wait_until(lambda: subprocess.run(["curl", "-sk", self.url], stdout=subprocess.DEVNULL).returncode == 0, f"nginx; {self.folder}")
        return self

    def stop(self):
        for process in self.processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            process.wait()

    def repository(self, path):
        return Repository(self, path)

    def requests(self):
        """What was asked for so far, one line each."""
        # It writes a line after the answer, and one request's after the other's: once it tells of this one, it has told of all.
        self.asked += 1
        subprocess.run(["curl", "-sk", f"{self.url}/told/{self.asked}"], stdout=subprocess.DEVNULL)
        log = self.folder / "access.log"
        wait_until(lambda: log.exists() and f"/told/{self.asked} " in log.read_text(), f"the request in {log}")
        return [line for line in log.read_text().splitlines() if "/told/" not in line]
