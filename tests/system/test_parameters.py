"""Parameter Store, and builds whose variables come from there."""

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from botocore.exceptions import ClientError

from host import files_below, wait_until
from local import spec
from served import Codebuild, contexts, outcome

VALUE = "parameter-value-of-nobodys-business"


@pytest.fixture
def ssm(server):
    return server.client("ssm")


def wanting(variables, **phases):
    return json.dumps(spec(**phases) | {"env": {"parameter-store": variables}})


def files_with(text, folder, beside="scratch"):
    """The files below `folder` that hold `text`. What a build's own commands write is theirs."""
    return [str(path) for path, content in files_below(folder) if text.encode() in content and beside not in path.parts]


# BS-046, BS-052
def test_a_buildspecs_parameters_reach_the_commands_and_nothing_else(server, codebuild, ssm, name):
    ssm.put_parameter(Name="/app/token", Value=VALUE, Type="SecureString")
    ssm.put_parameter(Name="/app/plain", Value="first", Type="String")
    ssm.put_parameter(Name="/app/plain", Value="second", Type="String", Overwrite=True)
    variables = {"TOKEN": "/app/token", "PLAIN": "/app/plain", "FIRST": "/app/plain:1"}
    commands = ["echo token=$TOKEN", f'test "$TOKEN" = {VALUE[:9]}"{VALUE[9:]}"', 'test "$PLAIN$FIRST" = "secondfirst"']
    codebuild.create_project(name, wanting(variables, build=commands))
    build = codebuild.run(name)
    log = codebuild.log(build)
    assert outcome(build)[0] == "SUCCEEDED", log
    assert "token=***" in log and VALUE not in log
    assert VALUE not in json.dumps(build, default=str)
    assert files_with(VALUE, server.data) == []


def test_while_a_build_runs_no_file_of_the_server_holds_the_value(server, codebuild, ssm, name):
    ssm.put_parameter(Name="/running/token", Value=VALUE, Type="SecureString")
    codebuild.create_project(name, wanting({"TOKEN": "/running/token"}, build=["sleep 100000"]))
    build = codebuild.start(name)
    codebuild.reached(build["id"])
    assert files_with(VALUE, server.data) == []
    codebuild.api.stop_build(id=build["id"])
    assert outcome(codebuild.wait(build["id"]))[0] == "STOPPED"


# BS-047, LC-055
def test_a_parameter_that_does_not_exist_fails_download_source_by_name(codebuild, name):
    codebuild.create_project(name, wanting({"A": "/no/such/parameter"}, build=["echo never"]))
    build = codebuild.run(name)
    status, phases = outcome(build)
    assert (status, phases["DOWNLOAD_SOURCE"]) == ("FAILED", "FAILED") and "BUILD" not in phases
    code, message = contexts(build)["DOWNLOAD_SOURCE"]
    assert code == "Decrypted Variables Error"
    assert "parameter does not exist: /no/such/parameter" in message


# BS-044, BS-050
def test_a_name_counts_once_over_plain_values_and_parameters(codebuild, ssm, name):
    for key in ("buildspec", "project", "start"):
        ssm.put_parameter(Name=f"/order/{key}", Value=f"of {key}", Type="String")
    parameter = lambda name, value: {"name": name, "value": f"/order/{value}", "type": "PARAMETER_STORE"}
    plain = lambda name, value: {"name": name, "value": value, "type": "PLAINTEXT"}
    environment = {
        "type": "LINUX_CONTAINER", "image": "aws/codebuild/standard:7.0", "computeType": "BUILD_GENERAL1_SMALL",
        "environmentVariables": [parameter("B", "project"), parameter("C", "project"), plain("D", "plain")],
    }
    wanted = {key: "/order/buildspec" for key in "ABC"} | {"D": "/not/there"}
    check = 'test "$A/$B/$C/$D" = "of buildspec/of project/now plain/plain"'
    codebuild.create_project(name, wanting(wanted, build=[check]), environment=environment)
    build = codebuild.run(name, environmentVariablesOverride=[plain("C", "now plain")])
    assert outcome(build)[0] == "SUCCEEDED", codebuild.log(build)
    build = codebuild.run(name, environmentVariablesOverride=[parameter("D", "start"), plain("C", "now plain")])
    assert outcome(build)[0] == "FAILED"


def test_the_cli_and_boto3_see_the_same_parameters(server, ssm):
    put = ["aws", "ssm", "put-parameter", "--name", "/cli/a", "--value", "v", "--type", "String"]
    made = subprocess.run(put, env=server.environment(), capture_output=True, text=True, check=True)
    assert json.loads(made.stdout)["Version"] == 1
    assert ssm.get_parameter(Name="/cli/a")["Parameter"]["Value"] == "v"


def test_parameters_outlive_a_kill_and_need_their_key(make_server):
    server = make_server()
    server.client("ssm").put_parameter(Name="/kept", Value=VALUE, Type="SecureString")
    server.kill()
    assert files_with(VALUE, server.data) == []
    server.start()
    kept = server.client("ssm").get_parameter(Name="/kept", WithDecryption=True)["Parameter"]
    assert kept["Value"] == VALUE
    server.stop()
    key = server.data / "secret.key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.rename(key.with_suffix(".elsewhere"))
    with pytest.raises(AssertionError, match="secret.key.*missing"):
        server.start()
    key.with_suffix(".elsewhere").rename(key)
    server.start()
    assert server.client("ssm").get_parameter(Name="/kept", WithDecryption=True)["Parameter"]["Value"] == VALUE


class Slow:
    """A Parameter Store that answers when it is allowed to."""

    def __init__(self):
        self.open, self.asked = threading.Event(), []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.asked.append((self.headers["X-Amz-Target"], request, self.headers["Authorization"]))
                service.open.wait(300)
                parameters = [{"Name": name, "Value": VALUE, "Type": "String"} for name in request["Names"]]
                body = json.dumps({"Parameters": parameters, "InvalidParameters": []}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    pass  # whoever asked was killed

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def slow():
    slow = Slow()
    yield slow
    slow.open.set()
    slow.server.shutdown()


def test_a_build_that_waits_for_its_values_is_answered_by_the_next_server(make_server, slow, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDELSEWHERE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    config = tmp_path / "buildyard.toml"
    config.write_text(f'[references]\nfrom = "aws"\nendpoint = "{slow.url}"\nregion = "eu-west-1"\n')
    server = make_server("--config", str(config))
    codebuild = Codebuild(server)
    names = {f"V{n}": f"/p{n}" for n in range(11)}
    codebuild.create_project("waits", wanting(names, build=["echo once; test ${#V10} = " + str(len(VALUE))]))
    build = codebuild.start("waits")
    wait_until(lambda: slow.asked, "the first server asks")
    server.kill()
    server.start()
    wait_until(lambda: len(slow.asked) > 1, "the next server asks again")
    assert Codebuild(server).build(build["id"])["currentPhase"] == "DOWNLOAD_SOURCE"
    slow.open.set()
    build = Codebuild(server).wait(build["id"])
    log = codebuild.log(build)
    assert outcome(build)[0] == "SUCCEEDED", log
    assert log.count("\nonce") == 1
    target, request, authorization = slow.asked[0]
    assert target == "AmazonSSM.GetParameters" and len(request["Names"]) <= 10 and request["WithDecryption"] is True
    assert "AKIDELSEWHERE" in authorization and "/eu-west-1/ssm/aws4_request" in authorization
    assert files_with(VALUE, server.data) == []


def test_a_local_build_fetches_what_it_refers_to_from_where_the_environment_says(server, ssm, project):
    ssm.put_parameter(Name="/local/token", Value=VALUE, Type="SecureString")
    project.write("buildspec.yml", wanting({"TOKEN": "/local/token"}, build=["echo token=$TOKEN"]))
    ran = project.run(env=server.environment()).ended(0)
    assert "token=***" in ran.out and VALUE not in ran.out + ran.err


def test_a_local_build_without_credentials_says_what_can_be_done(project):
    project.write("buildspec.yml", wanting({"TOKEN": "/local/token"}, build=["echo token=$TOKEN"]))
    hidden = {"AWS_ACCESS_KEY_ID": "", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_CONFIG_FILE": "/dev/null"}
    ran = project.run(env=hidden).ended(1)
    for said in ("Decrypted Variables Error", "/local/token", "AWS_ACCESS_KEY_ID", "-e NAME=VALUE"):
        assert said in ran.out, (said, ran.out)
    ran = project.run("-e", "TOKEN=mine", env=hidden).ended(0)
    assert "token=mine" in ran.out
