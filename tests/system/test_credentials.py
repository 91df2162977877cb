"""Source credentials, and builds whose git is given them."""

import json

import pytest
from botocore.exceptions import ClientError

from host import files_below
from local import spec
from served import outcome

TOKEN = "t0ken-of-nobodys-business"
ASK = "printf 'protocol=https\\nhost={host}\\n\\n' | GIT_TERMINAL_PROMPT=0 git credential fill"


def asking(*hosts):
    commands = [f"{ASK.format(host=host)} || echo nothing for {host}" for host in hosts]
    return json.dumps(spec(build=commands) | {"env": {"git-credential-helper": "yes"}})


@pytest.fixture
def client(codebuild):
    for info in codebuild.api.list_source_credentials()["sourceCredentialsInfos"]:
        codebuild.api.delete_source_credentials(arn=info["arn"])
    return codebuild.api


# AP-110, AP-111, AP-112, SA-050, SA-051, SA-052
def test_credentials_are_imported_listed_and_deleted_and_never_shown(server, client):
    imported = client.import_source_credentials(
        serverType="GITHUB", authType="PERSONAL_ACCESS_TOKEN", token=TOKEN
    )
    assert imported["arn"] == "arn:aws:codebuild:us-east-1:123456789012:token/github"
    listed = client.list_source_credentials()["sourceCredentialsInfos"]
    assert listed == [
        {"arn": imported["arn"], "serverType": "GITHUB", "authType": "PERSONAL_ACCESS_TOKEN"}
    ]
    with pytest.raises(client.exceptions.ResourceAlreadyExistsException):
        client.import_source_credentials(
            serverType="GITHUB", authType="PERSONAL_ACCESS_TOKEN", token="x", shouldOverwrite=False
        )
    with pytest.raises(ClientError) as refused:
        client.import_source_credentials(serverType="GITHUB", authType="SECRETS_MANAGER", token=TOKEN)
    assert TOKEN not in str(refused.value) and "ARN of a secret" in str(refused.value)
    kept = [path for path, content in files_below(server.data) if "images" not in path.parts and TOKEN.encode() in content]
    assert kept == []
    assert TOKEN not in server.log.read_text()
    assert client.delete_source_credentials(arn=imported["arn"])["arn"] == imported["arn"]
    assert client.list_source_credentials()["sourceCredentialsInfos"] == []
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.delete_source_credentials(arn=imported["arn"])


# BS-052, BS-055, SA-054
def test_git_in_a_build_that_asks_for_it_is_given_the_accounts_credentials(server, codebuild, client, name):
    text = {"ServerType": "BITBUCKET", "AuthType": "BASIC_AUTH", "Token": f"{TOKEN}-2", "Username": "octo"}
    secret = server.client("secretsmanager").create_secret(Name="git/bitbucket", SecretString=json.dumps(text))
    client.import_source_credentials(serverType="GITHUB", authType="PERSONAL_ACCESS_TOKEN", token=TOKEN)
    client.import_source_credentials(serverType="BITBUCKET", authType="SECRETS_MANAGER", token=secret["ARN"])
    codebuild.create_project(name, asking("github.com", "bitbucket.org", "git.example"))
    build = codebuild.run(name)
    log = codebuild.log(build)
    assert outcome(build)[0] == "SUCCEEDED", log
    assert "host=github.com\nusername=x-access-token\npassword=***\n" in log, log
    assert "host=bitbucket.org\nusername=octo\npassword=***\n" in log, log
    assert "nothing for git.example" in log and TOKEN not in log


# BS-055
def test_git_in_a_build_that_does_not_ask_is_given_nothing(codebuild, client, name):
    client.import_source_credentials(serverType="GITHUB", authType="PERSONAL_ACCESS_TOKEN", token=TOKEN)
    command = f"{ASK.format(host='github.com')} || echo nothing"
    codebuild.create_project(name, json.dumps(spec(build=[command])))
    build = codebuild.run(name)
    assert outcome(build)[0] == "SUCCEEDED" and "nothing\n" in codebuild.log(build)
