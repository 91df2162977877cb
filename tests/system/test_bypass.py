"""Ways around a signature: 42 classes of forged, replayed and twisted requests, 20 of each, and none is let in.

Each is made from a request that is let in as it is, so that what refuses it is its twist. What a known caller may do
(other accounts' resources, policies, keys that were withdrawn) is looked at elsewhere.
"""

import datetime
import hashlib
import hmac
import itertools
import json
import os
import socket
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pytest

from host import wait_until
from served import ACCOUNT, ENVIRONMENT, KEY_ID, REGION, SECRET, Codebuild, Server

VARIANTS = 20
FAKETIME = Path(f"/usr/lib/{os.uname().machine}-linux-gnu/faketime/libfaketime.so.1")
ALGORITHM = "AWS4-HMAC-SHA256"
TERMINATOR = "aws4_request"
READING = ["ListProjects", "ListBuilds", "ListSourceCredentials"]
CHANGING = [
    "BatchDeleteBuilds", "CreateProject", "DeleteProject", "DeleteSourceCredentials", "ImportSourceCredentials",
    "InvalidateProjectCache", "PutResourcePolicy", "RetryBuild", "StartBuild", "StopBuild", "UpdateProject",
    "CreateWebhook", "DeleteWebhook", "UpdateWebhook", "CreateFleet", "DeleteFleet", "CreateReportGroup",
    "DeleteReport", "StartBuildBatch", "UpdateProjectVisibility",
]  # fmt: skip


def now():
    return datetime.datetime.now(datetime.UTC)


def basic(moment):
    return moment.strftime("%Y%m%dT%H%M%SZ")


def sha256(body):
    return hashlib.sha256(body).hexdigest()


@dataclass(frozen=True)
class Request:
    """A request as it goes over the wire."""

    method: str
    path: str
    query: str
    headers: tuple
    body: bytes

    def values(self, name):
        return [value for given, value in self.headers if given.lower() == name.lower()]

    def without(self, name):
        return replace(self, headers=tuple(pair for pair in self.headers if pair[0].lower() != name.lower()))

    def plus(self, name, value):
        return replace(self, headers=(*self.headers, (name, value)))

    def set(self, name, value):
        headers = ((given, value if given.lower() == name.lower() else old) for given, old in self.headers)
        return replace(self, headers=tuple(headers))

    def edited(self, edit):
        """The Authorization header, changed."""
        (value,) = self.values("Authorization")
        return self.set("Authorization", edit(value))

    def wire(self, target=None):
        target = target or self.path + ("?" + self.query if self.query else "")
        lines = [f"{self.method} {target} HTTP/1.1"] + [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + self.body

    def signed(
        self, *, at=None, date=None, names=None, algorithm=ALGORITHM, key=KEY_ID, secret=SECRET, scope=None, hashed=None
    ):
        """With a signature that is right for what it says; the parameters are what it says."""
        date = date or basic(at or now())
        request = self.plus("X-Amz-Date", date) if not self.values("X-Amz-Date") else self
        scope = scope or (date[:8], REGION, "codebuild", TERMINATOR)
        names = names or sorted({name.lower() for name, _ in request.headers} - {"content-length", "connection"})
        blank = {name: ",".join(" ".join(value.split()) for value in request.values(name)) for name in names}
        canonical = [self.method, self.path, canonical_query(self.query)]
        canonical += [f"{name}:{blank[name]}" for name in names] + ["", ";".join(names), hashed or sha256(self.body)]
        text = "\n".join([algorithm, date, "/".join(scope), sha256("\n".join(canonical).encode())])
        signing = b"AWS4" + secret.encode()
        for part in (*scope, text):
            signing = hmac.digest(signing, part.encode(), "sha256")
        credential = "/".join((key, *scope))
        listed = ";".join(names)
        value = f"{algorithm} Credential={credential}, SignedHeaders={listed}, Signature={signing.hex()}"
        return request.plus("Authorization", value)


def canonical_query(query):
    pairs = [pair.partition("=")[::2] for pair in query.split("&") if pair]
    return "&".join("=".join(pair) for pair in sorted(pairs))


class Door:
    """The server, as somebody with a socket sees it."""

    def __init__(self, server):
        self.server = server
        self.host = f"127.0.0.1:{server.port}"

    def plain(self, number, operation=None, body=None):
        """An unsigned call: JSON and CBOR in turns."""
        operation = operation or READING[number // 2 % len(READING)]
        if number % 2:
            path = f"/service/CodeBuild_20161006/operation/{operation}"
            named = [("Smithy-Protocol", "rpc-v2-cbor"), ("Content-Type", "application/cbor")]
            body = b"\xa1\x65extra" + bytes([number]) if body is None and number < 24 else body or b"\xa0"
        else:
            path = "/"
            named = [("X-Amz-Target", f"CodeBuild_20161006.{operation}"), ("Content-Type", "application/x-amz-json-1.1")]
            body = body or json.dumps({"extra": number}).encode()
        headers = [("Host", self.host), *named, ("Content-Length", str(len(body))), ("Connection", "close")]
        return Request("POST", path, "", tuple(headers), body)

    def json(self, number, *arguments):
        return self.plain(number * 2, *arguments)

    def send(self, wire):
        """The answer's status; 0 if there was none."""
        wire = wire.wire() if isinstance(wire, Request) else wire
        with socket.create_connection(("127.0.0.1", self.server.port), 60) as connection:
            answer = b""
            try:
                connection.sendall(wire)
                while some := connection.recv(65536):
                    answer += some
            except ConnectionError:
                pass
        return int(answer.split()[1]) if answer else 0, answer


CLASSES = {}


def bypass(number, what):
    def add(make):
        CLASSES[f"{number:02}-{what}"] = make
        return make

    return add


def altered(choices):
    """A class in which each variant is one change of a signed request."""
    return lambda door, number: choices[number % len(choices)](door.plain(number).signed())


@bypass(1, "no Authorization")
def _(door, number):
    request = door.plain(number).signed()
    (value,) = request.values("Authorization")
    elsewhere = ["Proxy-Authorization", "X-Authorization", "X-Amz-Authorization", "X-Forwarded-Authorization", "Cookie"]
    request = request.without("Authorization")
    return request if number < 2 else request.plus(elsewhere[number % 5], value)


@bypass(2, "empty or half an Authorization")
def _(door, number):
    if number < 6:
        empty = ["", " ", ALGORITHM, ALGORITHM + " ", ALGORITHM + " Credential=", "Bearer " + KEY_ID][number]
        return door.plain(number).signed().set("Authorization", empty)
    return door.plain(number).signed().edited(lambda value: value[: len(value) * (number - 5) // 16])


@bypass(3, "two Authorizations")
def _(door, number):
    request = door.plain(number).signed()
    (right,) = request.values("Authorization")
    wrong = ["", right, "Basic eDp5", right.replace(KEY_ID, "AKIDOTHER"), right[:-1] + "x"][number % 5]
    match number // 5:
        case 0:
            return request.plus("Authorization", wrong)
        case 1:
            return request.set("Authorization", wrong).plus("authorization", right)
        case 2:
            return request.set("Authorization", f"{right}, {wrong or 'Signature='}")
        case _:
            return request.set("Authorization", f"{wrong or 'x'}, {right}")


def presigned(number, request):
    date = basic(now())
    credential = quote(f"{KEY_ID}/{date[:8]}/{REGION}/codebuild/{TERMINATOR}", safe="")
    pairs = [("X-Amz-Algorithm", ALGORITHM), ("X-Amz-Credential", credential), ("X-Amz-Date", date)]
    pairs += [("X-Amz-Expires", str(number + 1)), ("X-Amz-SignedHeaders", "host"), ("X-Amz-Signature", "0" * 64)]
    return replace(request, query="&".join("=".join(pair) for pair in pairs[: 6 if number % 2 else 5]))


@bypass(4, "header and query")
def _(door, number):
    return presigned(number, door.plain(number)).signed()


@bypass(5, "version 2")
def _(door, number):
    request = door.plain(number).plus("Date", now().strftime("%a, %d %b %Y %H:%M:%S GMT"))
    digest = [hashlib.sha1, hashlib.sha256][number % 2]
    code = hmac.new(SECRET.encode(), b"POST\n\n\n\n/", digest).digest().hex()
    if number < 10:
        return request.plus("Authorization", f"AWS {KEY_ID}:{code}")
    query = f"AWSAccessKeyId={KEY_ID}&SignatureVersion=2&SignatureMethod=HmacSHA256&Signature={code}&Expires=9999999999"
    return replace(request, query=query)


@bypass(6, "version 4A")
def _(door, number):
    date = basic(now())
    name = "AWS4-ECDSA-P256-SHA256"
    request = door.plain(number).plus("X-Amz-Region-Set", ["*", REGION, "us-*", ""][number % 4])
    scope = (date[:8], "codebuild", TERMINATOR) if number < 10 else (date[:8], REGION, "codebuild", TERMINATOR)
    return request.signed(date=date, algorithm=name, scope=scope)


@bypass(7, "unknown algorithm")
def _(door, number):
    names = ["AWS4-HMAC-SHA1", "AWS4-HMAC-SHA512", "AWS4-HMAC-MD5", "AWS3-HMAC-SHA256", "AWS5-HMAC-SHA256", "HMAC-SHA256"]
    names += ["none", "AWS4", "AWS4-HMAC", "AWS4-HMAC-SHA256-PAYLOAD", "AWS4-HMAC-SHA2560", "XAWS4-HMAC-SHA256", "AWS"]
    names += ["AWS4_HMAC_SHA256", "AWS4-HMAC-SHA256,", "AWS4-HMAC-SHA-256", "*", "AWS3", "Bearer", "Digest"]
    return door.plain(number).signed(algorithm=names[number])


@bypass(8, "algorithm in another case")
def _(door, number):
    letters = [at for at, letter in enumerate(ALGORITHM) if letter.isalpha()]
    flipped = {letters[number % len(letters)], *(letters[: number // len(letters) * 3])}
    name = "".join(letter.lower() if at in flipped else letter for at, letter in enumerate(ALGORITHM))
    return door.plain(number).signed(algorithm=ALGORITHM.lower() if number == 0 else name)


@bypass(9, "signature of another form")
def _(door, number):
    def edit(value):
        head, _, code = value.rpartition("=")
        forms = [code.upper(), code + "0", "0" + code, code[:-1], code[1:], "", code + code, f'"{code}"', "0x" + code]
        forms += [code[:62], code[:32], code[::-1], " ", code + "=", code + "00", code[:63] + " 0", "0" * 64, "f" * 64]
        forms += [code[:-2] + code[-1] + code[-2] + "0", code.title() + "A"]
        return f"{head}={forms[number]}"

    return door.plain(number).signed().edited(edit)


@bypass(10, "signature that is not hexadecimal")
def _(door, number):
    letter = "gGzZ-_+/=.~%@!xXoO;é"[number]
    return door.plain(number).signed().edited(lambda value: value[: -1 - number] + letter + value[len(value) - number :])


@bypass(11, "scope of another day")
def _(door, number):
    days = number - 10 if number < 10 else number - 9
    moment = now()
    date = (moment + datetime.timedelta(days=days)).strftime("%Y%m%d")
    return door.plain(number).signed(at=moment, scope=(date, REGION, "codebuild", TERMINATOR))


@bypass(12, "date changed")
def _(door, number):
    moment = now()
    moved = moment + datetime.timedelta(seconds=number - 10 if number < 10 else number - 9)
    return door.plain(number).signed(at=moment).set("X-Amz-Date", basic(moved))


@bypass(13, "other region")
def _(door, number):
    regions = "eu-west-1 us-east-2 us-west-1 us-west-2 US-EAST-1 us-east-1a us-east- us-east-10 us_east_1 useast1 * aws-global"
    regions = [*regions.split(), "", " us-east-1", "us-east-1 ", "us-gov-east-1", "cn-north-1", "us-east-1,eu-west-1"]
    region = [*regions, "us-east-1%00", "local"][number]
    return door.plain(number).signed(scope=(basic(now())[:8], region, "codebuild", TERMINATOR))


@bypass(14, "other service")
def _(door, number):
    services = "s3 sts logs ssm secretsmanager CodeBuild CODEBUILD codebuild2 codebuil codecommit codepipeline iam execute-api"
    services = [*services.split(), "", "*", "codebuild ", " codebuild", "codebuild-fips", "s3,codebuild", "kms"]
    return door.plain(number).signed(scope=(basic(now())[:8], REGION, services[number], TERMINATOR))


@bypass(15, "other terminator")
def _(door, number):
    date = basic(now())[:8]
    if number % 4 == 0:
        whole = (date, REGION, "codebuild", TERMINATOR)
        return door.plain(number).signed(scope=(whole[: 3 - number // 8], whole[:2] + ("aws4_request",))[number // 4 % 2])
    ends = ["aws4_Request", "AWS4_REQUEST", "aws4-request", "aws4_request2", "aws4", "", "aws3_request", "aws4_reques"]
    ends += ["request", "*", "aws4_request ", " aws4_request", "aws4_request,", "aws2_request", "aws4_requests"]
    return door.plain(number).signed(scope=(date, REGION, "codebuild", ends[number * 3 // 4]))


@bypass(16, "more parts than a scope has")
def _(door, number):
    whole = [basic(now())[:8], REGION, "codebuild", TERMINATOR]
    whole.insert(number % 5, ["", "x", REGION, TERMINATOR][number // 5])
    return door.plain(number).signed(scope=tuple(whole))


@bypass(17, "strange key id")
def _(door, number):
    keys = [KEY_ID + "/", "/" + KEY_ID, f"{KEY_ID}/x", KEY_ID + "%00", KEY_ID.lower(), KEY_ID + " ", KEY_ID[:-1], KEY_ID + "0"]
    keys += ["", " ", "*", "admin", KEY_ID.replace("K", "\u212a"), KEY_ID.replace("A", "\u0410"), KEY_ID + "\u200b"]
    keys += [KEY_ID + "\t", f"{KEY_ID},{KEY_ID}", f'"{KEY_ID}"', KEY_ID + "\x7f", KEY_ID * 1000]
    return door.plain(number).signed(key=keys[number])


@bypass(18, "too early")
def _(door, number):
    return door.plain(number).signed(at=now() + datetime.timedelta(minutes=6 + number**3))


@bypass(19, "too late")
def _(door, number):
    return door.plain(number).signed(at=now() - datetime.timedelta(minutes=6 + number**3))


@bypass(20, "no date")
def _(door, number):
    request = door.plain(number).signed()
    (date,) = request.values("X-Amz-Date")
    elsewhere = ["X-Date", "Amz-Date", "X-Amz-Date-", "X-Amzn-Date", "Last-Modified", "If-Modified-Since"]
    request = request.without("X-Amz-Date")
    return request if number < 2 else request.plus(elsewhere[number % 6], date)


@bypass(21, "two dates")
def _(door, number):
    moment = now()
    other = basic(moment + datetime.timedelta(seconds=number - 10))
    if number % 2:
        return door.plain(number).plus("X-Amz-Date", other).plus("X-Amz-Date", basic(moment)).signed(at=moment)
    return door.plain(number).signed(at=moment).plus("x-amz-date", other)


@bypass(22, "a date beside the date")
def _(door, number):
    stale = now() - datetime.timedelta(minutes=6 + number)
    fresh = now()
    date = fresh.strftime("%a, %d %b %Y %H:%M:%S GMT") if number % 2 else basic(fresh)
    request = door.plain(number).plus("Date", date)
    return request.signed(at=stale) if number < 10 else request.signed(at=fresh).set("X-Amz-Date", basic(stale))


@bypass(23, "date of another form")
def _(door, number):
    moment = now()
    day, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    dates = [f"{day}T{time}", f"{day}{time}Z", f"{day}t{time}z", f"{day}T{time}+0000", f"{day}T{time}.000Z", f"{day}T{time}ZZ"]
    dates += [f"{day}T{time[:4]}60Z", f"{day}T24{time[2:]}Z", f"{day}T{time[:4]}Z", moment.isoformat(), str(moment.timestamp())]
    dates += [f"1{day}T{time}Z", f"+{day}T{time}Z", f"{day[:4]}0230T{time}Z", f"{day[:4]}13{day[6:]}T{time}Z", f"{day}T{time}X"]
    dates += ["99991231T235959Z", "00000101T000000Z", f"-{day}T{time}Z", moment.strftime("%a, %d %b %Y %H:%M:%S GMT")]
    return door.plain(number).plus("X-Amz-Date", dates[number]).signed(date=dates[number])


@bypass(27, "host unsigned")
def _(door, number):
    request = door.plain(number)
    names = sorted({name.lower() for name, _ in request.headers} - {"host", "content-length", "connection"} | {"x-amz-date"})
    signed = request.plus("X-Amz-Date", basic(now())).signed(names=names)
    hosts = [door.host, "evil.example", "codebuild.us-east-1.amazonaws.com", "localhost"]
    return signed.set("Host", hosts[number % 4])


@bypass(28, "operation unsigned, then swapped")
def _(door, number):
    request = door.json(number)
    names = ["content-type", "host", "x-amz-date"]
    signed = request.plus("X-Amz-Date", basic(now())).signed(names=names)
    return signed.set("X-Amz-Target", f"CodeBuild_20161006.{CHANGING[number]}")


@bypass(29, "signed header that was not sent")
def _(door, number):
    gone = ["accept", "x-amz-security-token", "x-amz-content-sha256", "cookie", "x-extra", "amz-sdk-request", "origin"]
    request = door.plain(number).plus("X-Amz-Date", basic(now()))
    present = {name.lower() for name, _ in request.headers} - {"content-length", "connection"}
    return request.signed(names=sorted(present | {gone[number % 7] + "-" * (number // 7)}))


@bypass(30, "second value of a signed header")
def _(door, number):
    name = ["X-Amz-Target", "Content-Type", "X-Amz-Date", "Host"][number % 4]
    request = door.json(number).signed()
    seconds = [f"CodeBuild_20161006.{CHANGING[number]}", "application/cbor", basic(now()), "evil.example"]
    second = seconds[number % 4]
    if number < 10:
        return request.plus(name, second)
    request, old = request.without(name), request.values(name)[0]
    return request.plus(name, second).plus(name.lower(), old)


@bypass(31, "signed headers out of order")
def _(door, number):
    request = door.plain(number).plus("X-Amz-Date", basic(now()))
    names = sorted({name.lower() for name, _ in request.headers} - {"content-length", "connection"})
    if number < 8:
        order = next(itertools.islice(itertools.permutations(names), number + 1, None))
        return request.signed(names=list(order))
    if number < 14:
        at = number % len(names)
        return request.signed(names=[*names[: at + 1], *names[at:]])
    at = number % len(names)
    return request.signed(names=[name.upper() if place == at else name for place, name in enumerate(names)])


@bypass(32, "folded header")
def _(door, number):
    request = door.plain(number).signed()
    fold = ["\r\n ", "\r\n\t", "\n ", "\r "][number % 4]
    if number < 10:
        return request.plus("X-Folded", f"a{fold}b").wire()
    return request.edited(lambda value: value.replace(", ", f",{fold}", number // 10 + 1)).wire()


@bypass(33, "session token of nobody")
def _(door, number):
    token = ["", "x", "the-token", "A" * 1000, KEY_ID][number % 5]
    request = door.plain(number)
    if number < 10:
        return request.plus("X-Amz-Security-Token", token).signed()
    return request.signed().plus("X-Amz-Security-Token", token)


@bypass(34, "content type swapped")
def _(door, number):
    other = ["application/cbor", "application/x-amz-json-1.1"][number % 2]
    kinds = [other, "application/x-www-form-urlencoded", "text/plain", "", "application/x-amz-json-1.0"]
    kind = kinds[number // 2 % 5]
    request = door.plain(number)
    if number < 10:
        return request.signed().set("Content-Type", kind)
    names = sorted({name.lower() for name, _ in request.headers} - {"content-type", "content-length", "connection"})
    return request.plus("X-Amz-Date", basic(now())).signed(names=sorted({*names, "x-amz-date"})).set("Content-Type", kind)


@bypass(35, "body changed")
def _(door, number):
    request = door.plain(number).signed()
    body = request.body
    bodies = [body[:-1] + b" }", body + b" ", b" " + body, body.replace(b"extra", b"extrb"), b"", b"{}", b"\xa0", body + b"\0"]
    changed = bodies[number // 2 % 8]
    changed = changed if changed != body else body + b"\n"
    return replace(request, body=changed).set("Content-Length", str(len(changed)))


@bypass(36, "declared hash of another body")
def _(door, number):
    hashes = [sha256(b""), sha256(b"{} "), "0" * 64, sha256(b"x"), sha256(door.plain(number).body).upper()]
    declared = hashes[number % 5]
    request = door.plain(number).plus("X-Amz-Content-Sha256", declared)
    return request.signed(hashed=declared) if number < 10 else request.signed()


@bypass(37, "unsigned payload")
def _(door, number):
    words = ["UNSIGNED-PAYLOAD", "unsigned-payload", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "UNSIGNED-PAYLOAD ", ""]
    request = door.plain(number).plus("X-Amz-Content-Sha256", words[number % 5])
    if number < 10:
        return request.signed(hashed=words[number % 5].strip() or "UNSIGNED-PAYLOAD")
    names = sorted({name.lower() for name, _ in request.headers} - {"content-length", "connection", "x-amz-content-sha256"})
    request = request.plus("X-Amz-Date", basic(now()))
    return request.signed(names=sorted({*names, "x-amz-date"}), hashed="UNSIGNED-PAYLOAD")


@bypass(38, "chunks and trailers")
def _(door, number):
    request = door.plain(number)
    kinds = ["STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"]
    length, chunk = len(request.body), f"{len(request.body):x}\r\n".encode()
    if number < 10:
        kind = kinds[number % 2]
        request = request.plus("X-Amz-Content-Sha256", kind).plus("X-Amz-Decoded-Content-Length", str(length))
        return request.plus("Content-Encoding", "aws-chunked").signed(hashed=kind)
    signed = request.signed().plus("Transfer-Encoding", ["chunked", "Chunked", "identity, chunked"][number % 3])
    signed = signed if number % 2 else signed.without("Content-Length")
    trailer = [b"", b"X-Amz-Target: CodeBuild_20161006.StartBuild\r\n"][number // 2 % 2]
    return replace(signed, body=chunk + request.body + b"\r\n0\r\n" + trailer + b"\r\n")


@bypass(39, "other path")
def _(door, number):
    request = door.plain(number)
    front = ["//", "/./", "/%2f", "/..", "/x/..", "/%2e/", "/;", "/%3F", "/%23", "/\\"][number // 2]
    path = front if request.path == "/" else front + request.path.lstrip("/")
    return replace(request.signed(), path=path)


@bypass(40, "other query")
def _(door, number):
    request = replace(door.plain(number), query="a=1&b=2").signed()
    queries = ["", "a=1", "a=1&b=3", "a=2&b=1", "a=1&b=2&b=2", "a=1&a=1&b=2", "a=1&b=2&c=", "a=1;b=2", "b=1&a=2", "a=1&b=2%20"]
    queries += ["A=1&b=2", "a=1&b=2&X-Amz-Target=x", "a=1&b", "a&b=2", "a=1%26b=2", "a=1&b=2&a=2", "=&a=1&b=2", "a=%31%31&b=2"]
    queries += ["a==1&b=2", "a=1&b=2&Action=GetCallerIdentity"]
    return replace(request, query=queries[number])


@bypass(41, "other method")
def _(door, number):
    request = door.plain(number).signed()
    if number < 12:
        methods = ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "post", "Post", "POSTX", "TRACE", "QUERY", "PROPFIND"]
        return replace(request, method=methods[number])
    name = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"][number % 4]
    return replace(request, method=["GET", "PUT"][number % 2]).plus(name, "POST")


@bypass(42, "two names of the host")
def _(door, number):
    request = door.plain(number).signed()
    other = ["evil.example", "localhost", "127.0.0.2", f"user@{door.host}", "127.0.0.1", "127.0.0.1:1", "[::1]"][number % 7]
    if number < 10:
        return request.wire(f"http://{other}{request.path}")
    return request.set("Host", other)


# AP-001, AP-004
@pytest.mark.parametrize("what", CLASSES)
def test_no_way_around_a_signature_is_let_in(server, what):
    door = Door(server)
    for number in range(VARIANTS):
        number_of_request = number * 2 if what[:2] in ("28", "30") else number
        status, answer = door.send(door.plain(number_of_request).signed())
        assert status == 200, (number, answer)
        status, answer = door.send(CLASSES[what](door, number))
        assert not 200 <= status < 300, (number, answer)
        assert not 500 <= status, (number, answer)


def test_there_is_a_class_for_each_way():
    assert sorted(int(what[:2]) for what in CLASSES) == [number for number in range(1, 43) if number not in (24, 25, 26)]


def creating(door, name, number=0):
    project = {
        "name": name,
        "source": {"type": "NO_SOURCE", "buildspec": "version: 0.2\nphases: {build: {commands: [date]}}"},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": ENVIRONMENT,
        "serviceRole": f"arn:aws:iam::{ACCOUNT}:role/codebuild",
    }
    return door.json(number, "CreateProject", json.dumps(project).encode())


def starting(door, project, number):
    return door.json(number, "StartBuild", json.dumps({"projectName": project, "extra": number}).encode())


def as_sdks_do(request, number=1):
    """Signed, and then given an invocation id, which most SDKs leave unsigned."""
    signed = request.signed()
    told = [("amz-sdk-invocation-id", str(uuid.uuid4())), ("amz-sdk-request", "attempt=1")]
    return replace(signed, headers=(*signed.headers, *(told if number % 2 else told[:1])))


# AP-004; classes 24, 25
def test_a_change_that_was_recorded_cannot_be_played_again_not_even_to_the_next_server(make_server, name):
    server = make_server()
    door = Door(server)
    codebuild = Codebuild(server)
    codebuild.create_project(name, "version: 0.2\nphases: {build: {commands: [date]}}")

    changes = [creating(door, f"{name[:60]}-{number}", number) for number in range(VARIANTS)]
    changes += [starting(door, name, number) for number in range(4)]
    changes = [as_sdks_do(change, number).wire() for number, change in enumerate(changes)]
    # Who does not number his calls may mean the same again, for a few seconds.
    plain = creating(door, f"{name[:60]}-plain").signed().wire()
    assert door.send(plain)[0] == 200
    refused = lambda recorded: b"InvalidSignatureException" in door.send(recorded)[1]
    for recorded in changes:
        assert door.send(recorded)[0] == 200
        assert refused(recorded)
    assert all(map(refused, changes))
    wait_until(lambda: refused(plain), "what was recorded of a plain client is refused")
    changes.append(plain)
    server.kill()
    server.start()
    assert all(map(refused, changes))
    server.stop()
    server.start()
    assert all(map(refused, changes))
    builds = codebuild.api.list_builds_for_project(projectName=name)["ids"]
    assert len(builds) == 4
    for build in builds:
        codebuild.wait(build)


# AP-004
def test_calls_that_an_sdk_makes_in_one_second_are_each_carried_out(server, name):
    """botocore signs neither its invocation id nor its attempt: such calls have one signature."""
    codebuild = Codebuild(server)
    codebuild.create_project(name, "version: 0.2\nphases: {build: {commands: [date]}}")
    signatures = []
    noted = lambda request, **_: signatures.append(request.headers["Authorization"])
    codebuild.api.meta.events.register("before-send.codebuild.StartBuild", noted)
    started = []
    while len(started) < 20 or len(set(signatures)) == len(signatures):
        started.append(codebuild.start(name)["id"])
    assert len(set(started)) == len(started)
    assert sorted(codebuild.api.list_builds_for_project(projectName=name)["ids"]) == sorted(started)
    for build in started:
        codebuild.wait(build)


@pytest.fixture
def clock(tmp_path):
    """A server whose clock the test sets: `clock.ahead(seconds)`."""
    if not FAKETIME.exists():
        pytest.fail(f"{FAKETIME} is not there: apt-get install libfaketime")
    setting = tmp_path / "clock"
    server = Server(tmp_path / "data")

    def ahead(seconds):
        # Read anew with each look at the clock; a file that is half written would be no time at all.
        beside = setting.with_suffix(".new")
        beside.write_text(f"{seconds:+d}s\n")
        os.replace(beside, setting)

    ahead(0)
    server.ahead = ahead
    server.variables = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(setting),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    server.start()
    yield server
    server.stop()


# Seconds by which the clock has jumped while a recorded request is played.
JUMPS = [-86_400, -3_600, -600, -301, -299, -120, -60, -30, -10, 10, 30, 60, 120, 299, 301, 600, 3_600, 43_200, 80_000, 86_000]


# AP-004; class 26
def test_a_clock_that_jumps_makes_nothing_that_was_recorded_good_again(clock):
    door = Door(clock)
    recorded = [as_sdks_do(creating(door, f"recorded-{number}", number), number).wire() for number in range(VARIANTS)]
    for request in recorded:
        assert door.send(request)[0] == 200
    assert len(JUMPS) >= VARIANTS
    for jump, request in zip(JUMPS, recorded, strict=True):
        clock.ahead(jump)
        assert b"InvalidSignatureException" in door.send(request)[1], jump
        # There and back again: it is as old as it was.
        clock.ahead(6)
        assert b"InvalidSignatureException" in door.send(request)[1], jump
    clock.ahead(0)
    assert door.send(creating(door, "fresh").signed())[0] == 200
