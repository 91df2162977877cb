"""Signs requests with botocore, AWS's own Python signer, and prints them as JSON lines.

    python3 sign.py named             the committed cases of fixtures/signed.jsonl
    python3 sign.py random COUNT SEED  random requests, the same ones for the same seed
    python3 sign.py random-headers COUNT SEED  of these, those that are signed in headers for CodeBuild
    python3 sign.py links             the committed cases of fixtures/links.jsonl: Signature Version 2
    python3 sign.py random-links COUNT SEED

Each line: name, style (header | s3 | s3-query | link), method, path, query, headers [[name, value]], body, token,
service, now; of links also bucket, which is the one in the host's name.
"""

import datetime, json, random, sys
from urllib.parse import quote, urlsplit

import botocore.auth
from botocore.auth import HmacV1QueryAuth, S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

REGION, KEY_ID = "us-east-1", "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def sign(name, style, service, method, url, headers, body, moment, token=None, expires=3600):
    botocore.auth.get_current_datetime = lambda *a, **k: moment
    credentials = Credentials(KEY_ID, SECRET, token)
    # A presigned request is made before its body is known.
    data = b"" if style == "s3-query" else body.encode()
    request = AWSRequest(method=method, url=url, headers=dict(headers), data=data)
    signer = {
        "header": lambda: SigV4Auth(credentials, service, REGION),
        "s3": lambda: S3SigV4Auth(credentials, service, REGION),
        "s3-query": lambda: S3SigV4QueryAuth(credentials, service, REGION, expires=expires),
    }[style]()
    signer.add_auth(request)
    split = urlsplit(request.url)
    print(json.dumps({
        "name": name, "style": style, "service": service, "method": method,
        "path": split.path or "/", "query": split.query,
        "headers": [["Host", split.netloc]] + [[k, v] for k, v in request.headers.items()],
        "body": body, "token": token,
        "now": int(moment.replace(tzinfo=datetime.timezone.utc).timestamp()),
    }))


def link(name, method, url, headers, now, token=None, expires=3600, bucket=None, repeat=True):
    """A presigned URL, and the request that follows it: `repeat` sends its x-amz- parameters as headers, too."""
    class Signer(HmacV1QueryAuth):
        def _get_date(self): return str(now + expires)
    request = AWSRequest(method=method, url=url, headers=dict(headers))
    # As botocore's endpoints arrange it: the bucket first, with a slash behind it.
    path = (f"/{bucket}" if bucket else "") + urlsplit(url).path
    request.auth_path = path + "/" if path.count("/") == 1 and path != "/" else path
    Signer(Credentials(KEY_ID, SECRET, token)).add_auth(request)
    split = urlsplit(request.url)
    sent = [[k, v] for k, v in headers.items() if repeat or not k.lower().startswith("x-amz-")]
    print(json.dumps({
        "name": name, "style": "link", "service": "s3", "method": method, "path": split.path or "/",
        "query": split.query, "headers": [["Host", split.netloc]] + sent, "body": "", "token": token,
        "bucket": bucket, "now": now,
    }))


def links():
    base, now, meta = "http://s3.example.com", 1_440_938_160, {"x-amz-meta-b": "2", "x-amz-meta-a": "1 1"}
    link("an object", "GET", base + "/bucket/a/../b//c%20d%2Be", {}, now)
    link("a head", "HEAD", base + "/bucket/k", {}, now)
    link("a token", "GET", base + "/bucket/k", {}, now, token="IQoJ+/==")
    link("a listing", "GET", base + "/bucket?list-type=2&prefix=a%2F%20b", {}, now)
    link("an upload", "PUT", base + "/bucket/k", {"Content-Type": "text/plain", "Content-MD5": "XrY7u+Ae7tCTyyK7j1rNww=="}, now)
    link("metadata in the query", "PUT", base + "/bucket/k", meta, now, repeat=False)
    link("metadata in both", "PUT", base + "/bucket/k", meta, now)
    link("a part", "PUT", base + "/bucket/k?uploadId=a%2Bb&partNumber=2", {}, now)
    link("uploads", "GET", base + "/bucket?uploads&prefix=a", {}, now)
    link("overrides", "GET", base + "/bucket/k?response-content-type=text%2Fx&response-content-disposition=a%3B%20f%3D%22%C3%BC%26.txt%22&versionId=null", {}, now)
    link("a virtual host", "GET", "http://bucket.example.com/a%20b?acl", {}, now, bucket="bucket", token="T")


def named():
    moment = datetime.datetime(2015, 8, 30, 12, 36, 0)
    base = "http://example.amazonaws.com"
    json11 = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "CodeBuild_20161006.ListProjects"}
    cases = [
        ("plain GET", "GET", base + "/", {}, ""),
        ("no path", "GET", base, {}, ""),
        ("a JSON call", "POST", base + "/", json11, '{"sortBy":"NAME"}'),
        ("values with blanks", "GET", base + "/", {"My-Header1": "  a   b   c  ", "My-Header2": '"a   b"'}, ""),
        ("dots in the path", "GET", base + "/a/./b/../c", {}, ""),
        ("slashes in the path", "GET", base + "//a//b//", {}, ""),
        ("only dots", "GET", base + "/./../", {}, ""),
        ("an encoded path", "GET", base + "/a%20b/%E1%88%B4", {}, ""),
        ("a query out of order", "GET", base + "/?b=2&a=1&B=3&Aa=4", {}, ""),
        ("an empty query value", "GET", base + "/?acl=&b=1", {}, ""),
        ("an encoded query", "GET", base + "/?a%20b=%2Fc%3D%26&%E1%88%B4=bar", {}, ""),
        ("a form", "POST", base + "/", {"Content-Type": "application/x-www-form-urlencoded"}, "Action=X&A=%20"),
        ("a body beyond ASCII", "POST", base + "/", json11, "ሴ ü 🦀"),
    ]
    for name, method, url, headers, body in cases:
        sign(name, "header", "codebuild", method, url, headers, body, moment)
    sign("a session token", "header", "codebuild", "POST", base + "/", json11, "{}", moment, token="AQoDYX==")
    for style in ("s3", "s3-query"):
        sign(f"{style} object", style, "s3", "GET", base + "/bucket/a/../b//c%20d%2Be", {}, "", moment)
        sign(f"{style} listing", style, "s3", "GET", base + "/bucket?list-type=2&prefix=a%2F%20b", {}, "", moment)
        sign(f"{style} upload", style, "s3", "PUT", base + "/bucket/k", {"x-amz-meta-a": "b"}, "hello", moment)
        sign(f"{style} token", style, "s3", "GET", base + "/bucket/k", {}, "", moment, token="AQoDYX==")


def rand_text(rng, alphabet, low, high):
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(low, high)))


def random_case(rng, number, services=None):
    style = "header" if services else rng.choice(["header", "s3", "s3-query"])
    plain = "abcXYZ019-._~"
    wild = plain + " /+=&?#%:@!$'()*,;üሴ\U0001F980"
    segments = [rng.choice(["", ".", "..", None, None, None]) for _ in range(rng.randint(0, 5))]
    # botocore signs an S3 path as it is; SDKs never write a slash of a key as %2F.
    letters = wild if style == "header" else wild.replace("/", "")
    segments = [quote(rand_text(rng, letters, 0, 8), safe="") if s is None else s for s in segments]
    pairs = [(rand_text(rng, wild, 1, 6), rand_text(rng, wild, 0, 9)) for _ in range(rng.randint(0, 5))]
    query = "&".join(f"{quote(k, safe='-._~')}={quote(v, safe='-._~')}" for k, v in pairs)
    host = rng.choice(["localhost:8080", "example.com", "bucket.localhost:9000"])
    url = f"http://{host}/" + "/".join(segments) + ("?" + query if query else "")
    headers = {}
    for n in range(rng.randint(0, 4)):
        headers[rng.choice(["X-Amz-Meta-", "X-Other-"]) + str(n)] = rand_text(rng, "abc  XYZ,;=\"", 0, 20).strip()
    if rng.random() < 0.5:
        headers["Content-Type"] = rng.choice(["application/x-amz-json-1.1", "text/plain; charset=utf-8"])
    method = rng.choice(["GET", "PUT", "POST", "DELETE", "HEAD"])
    body = rand_text(rng, wild, 0, 60) if method in ("PUT", "POST") else ""
    moment = datetime.datetime(2000, 1, 1) + datetime.timedelta(seconds=rng.randint(0, 2_000_000_000))
    token = rng.choice([None, None, "IQoJb3JpZ2lu+/=="])
    service = rng.choice(services or ["codebuild", "logs", "sts"]) if style == "header" else "s3"
    sign(f"random {number}", style, service, method, url, headers, body, moment, token, rng.randint(1, 604800))


def random_link(rng, number):
    plain = "abcXYZ019-._~"
    wild = plain + " /+=&?#%:@!$'()*,;üሴ\U0001F980"
    segments = [quote(rand_text(rng, wild, 0, 8), safe="") for _ in range(rng.randint(1, 4))]
    names = HmacV1QueryAuth.QSAOfInterest + ["prefix", "list-type", "marker", "x-id", "max-keys"]
    pairs = [(name, rng.choice([rand_text(rng, wild, 1, 9), None])) for name in {rng.choice(names) for _ in range(rng.randint(0, 4))}]
    query = "&".join(name if value is None else f"{name}={quote(value, safe='-._~')}" for name, value in pairs)
    bucket = rng.choice([None, "bucket", "a.b-c"])
    host = f"{bucket}.localhost:9000" if bucket else "localhost:8080"
    url = f"http://{host}/" + "/".join(segments) + ("?" + query if query else "")
    headers = {}
    for n in range(rng.randint(0, 3)):
        headers["X-Amz-Meta-" + rand_text(rng, "abcXYZ", 1, 3)] = rand_text(rng, "abc  XYZ,;:=\"", 1, 20).strip() or "x"
    headers = {k.lower(): v for k, v in headers.items()}
    if rng.random() < 0.5: headers["Content-Type"] = rng.choice(["text/x", "text/plain; charset=utf-8"])
    if rng.random() < 0.2: headers["Content-MD5"] = "XrY7u+Ae7tCTyyK7j1rNww=="
    link(f"random link {number}", rng.choice(["GET", "HEAD", "PUT"]), url, headers, rng.randint(1, 2_000_000_000),
         rng.choice([None, None, "IQoJb3JpZ2lu+/=="]), rng.randint(1, 604800), bucket, rng.random() < 0.5)


def randomly(case):
    rng = random.Random(int(sys.argv[3]))
    for n in range(int(sys.argv[2])):
        case(rng, n)


if __name__ == "__main__":
    {
        "named": named,
        "links": links,
        "random": lambda: randomly(random_case),
        "random-headers": lambda: randomly(lambda rng, number: random_case(rng, number, ["codebuild"])),
        "random-links": lambda: randomly(random_link),
    }[sys.argv[1]]()
