"""Web pages of elsewhere, in a real Chromium, against every port of a running emulator."""

from __future__ import annotations

import http.server
import re
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import boto3
import httpx
import pytest
import redis
from botocore.config import Config

from .browser import chromium
from .conftest import up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from .conftest import Service

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the ports are read from /proc"),
]

TUNNEL = "abc.tunnel.test"
EVIL = ("evil.s3-website-us-east-1.amazonaws.com", "localhost.evil.example")
ATTACK = Path(__file__).with_name("attack.js").read_text()
TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Fn:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: fn
      Runtime: python3.11
      Handler: index.handler
      Environment: {{Variables: {{SEEN: "{seen}"}}}}
      InlineCode: |
        import json, os
        def handler(event, context):
            with open(os.environ["SEEN"], "a") as out:
                out.write(event.get("rawPath", event.get("path", "direct")) + chr(10))
            return {{"statusCode": 200, "headers": {{"access-control-allow-origin": "*"}},
                    "body": os.environ["AWS_LAMBDA_RUNTIME_API"]}}
      FunctionUrlConfig: {{AuthType: NONE, Cors: {{AllowOrigins: ["*"]}}}}
      Events:
        Any: {{Type: HttpApi, Properties: {{Path: "/{{any+}}", Method: any}}}}
        Old: {{Type: Api, Properties: {{Path: "/{{any+}}", Method: any}}}}
  Jobs: {{Type: AWS::SQS::Queue, Properties: {{QueueName: jobs}}}}
  Files: {{Type: AWS::S3::Bucket, Properties: {{BucketName: files}}}}
"""


class Stack:
    """A running emulator, its ports, and what has happened in it."""

    def __init__(self, said: dict[str, Any], seen: Path, service: Service) -> None:
        self.said, self._seen, self.service = said, seen, service
        self._client = client = service.client
        api = next(url for name, url in said["apis"].items() if "http" in name)
        self.api = api
        self.runtime = httpx.get(f"{api}/first", trust_env=False, timeout=60).text
        self.calls = self.seen()
        client("s3").list_buckets()  # moto runs from now on

    def seen(self) -> list[str]:
        return self._seen.read_text().splitlines() if self._seen.exists() else []

    def effects(self) -> dict[str, Any]:
        """What a page could have done."""
        queue = {"QueueUrl": self._client("sqs").get_queue_url(QueueName="jobs")["QueueUrl"]}
        counted = self._client("sqs").get_queue_attributes(**queue, AttributeNames=["All"])
        with redis.Redis.from_url(self.said["store"]) as store:
            keys = sorted(key for key in store.keys("*") if key.startswith(b"evil"))
        return {
            "calls": self.seen()[len(self.calls) :],
            "messages": int(counted["Attributes"]["ApproximateNumberOfMessages"]),
            "queues": len(self._client("sqs").list_queues()["QueueUrls"]),
            "objects": self._client("s3").list_objects_v2(Bucket="files")["KeyCount"],
            "buckets": len(self._client("s3").list_buckets()["Buckets"]),
            "keys": keys,
        }

    def targets(self) -> list[dict[str, str]]:
        """Where a page would strike."""
        aws, account = self.said["aws"], f"{self.said['aws']}/123456789012/jobs"
        send = urlencode({"Action": "SendMessage", "MessageBody": "evil"})
        create = urlencode({"Action": "CreateQueue", "QueueName": "evil"})
        form = "application/x-www-form-urlencoded"
        stored = "*3\r\n$3\r\nSET\r\n$4\r\nevil\r\n$1\r\n1\r\n\r\nSET evil2 1\r\n"
        found = [{"url": f"{url}/strike", "body": "evil=1"} for url in self.said["apis"].values()]
        found += [
            {"url": account, "body": send, "kind": form},
            {"url": f"{account}?{send}", "body": send},
            {"url": f"{aws}/?{create}", "body": create, "kind": form},
            {"url": f"{aws}/files/evil", "body": "evil"},
            {"url": f"{aws}/files", "body": "key=evil&file=x"},
            {"url": f"{aws}/evilbucket", "body": ""},
            {"url": f"{aws}/2015-03-31/functions/fn/invocations", "body": "{}"},
            {"url": f"{aws}/moto-api/reset", "body": ""},
            {"url": f"{self.said['console']}/api/queues/jobs/send", "body": '{"body": "evil"}'},
            {"url": f"{self.said['console']}/api/status", "body": "{}"},
            {"url": f"{self.said['console']}/", "body": ""},
        ]
        runtime = f"http://{self.runtime}/2018-06-01/runtime"
        found += [
            {"url": f"{runtime}/invocation/next", "body": ""},
            {"url": f"{runtime}/init/error", "body": "{}"},
            {"url": f"{runtime}/invocation/x/response", "body": "evil"},
            {"url": f"http://{self.runtime}/2020-01-01/extension/register", "body": "{}"},
        ]
        # Whatever else listens: moto's process and the store.
        known = {urlsplit(each["url"]).netloc for each in found}
        for address in listening(self.said["pid"]) - known:
            found += [
                {"url": f"http://{address}/{quote('SET evil 1')}", "body": stored},
                {"url": f"http://{address}/files/evil", "body": "evil"},
            ]
        return found


def listening(pid: int) -> set[str]:
    """The addresses at which a process and its children listen."""
    links = (link for each in descendants(pid) for link in Path(f"/proc/{each}/fd").glob("*"))
    sockets = set(re.findall(r"socket:\[(\d+)\]", " ".join(map(target_of, links))))
    addresses = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in sockets:
            address, _, port = fields[1].partition(":")
            host = ".".join(str(each) for each in reversed(bytes.fromhex(address)))
            addresses.add(f"{host}:{int(port, 16)}")
    return addresses


def target_of(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed meanwhile
        return ""


def descendants(pid: int) -> set[str]:
    parents = {}
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            stat = (each / "stat").read_text()
            parents[each.name] = stat.rpartition(")")[2].split()[1]
    found = {str(pid)}
    while more := {one for one, parent in parents.items() if parent in found} - found:
        found |= more
    return found


@contextmanager
def pages() -> Iterator[int]:
    """A server of pages under any name; its port."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>page</title><body>")

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("doors")
    seen = folder / "seen"
    (folder / "template.yaml").write_text(TEMPLATE.format(seen=seen))
    flags = ("--template", str(folder / "template.yaml"), "--no-reload", "--allow-host", TUNNEL)
    with up(folder, *flags) as (service, said):
        yield Stack(said, seen, service)


@pytest.fixture(scope="module")
def browser(stack: Stack) -> Iterator[Browser]:
    names = ", ".join(f"MAP {name} 127.0.0.1" for name in EVIL)
    host = stack.runtime.partition(":")[0]
    with chromium(f"--host-resolver-rules={names}, MAP runtime.* {host}") as browser:
        yield browser


def attack(
    browser: Browser, url: str, targets: list[dict[str, str]], *, rebound: bool = False
) -> list[str]:
    """What a page at this address could read; ``rebound`` came from there before it was ours."""
    context = browser.new_context()
    try:
        page = context.new_page()
        if rebound:
            page.route(url, lambda route: route.fulfill(content_type="text/html", body="<body>"))
        page.goto(url)
        read: list[str] = page.evaluate(ATTACK, targets)
        return read
    finally:
        context.close()


REFUSAL = re.compile(r"is not a name of this machine|the Host must be|: $")
QUIET = {"calls": [], "messages": 0, "queues": 1, "objects": 0, "buckets": 1, "keys": []}


def test_everything_of_ours_listens_on_loopback_alone(stack: Stack) -> None:
    found = listening(stack.said["pid"])
    assert len(found) >= 6
    assert stack.runtime in found
    assert all(each.startswith("127.") for each in found), found


@pytest.mark.parametrize("name", EVIL)
def test_a_page_of_elsewhere_reads_and_does_nothing(
    name: str, stack: Stack, browser: Browser
) -> None:
    with pages() as port:
        assert attack(browser, f"http://{name}:{port}/", stack.targets()) == []
    assert stack.effects() == QUIET
    stack.service.logged(f"refused a request: Origin 'http://{name}:")
    stack.service.logged("start with --allow-host NAME")
    # Nothing has taken the environment's next invocation.
    answer = httpx.get(f"{stack.api}/after", trust_env=False, timeout=30)
    assert (answer.status_code, answer.text) == (200, stack.runtime)
    stack.calls = stack.seen()


@pytest.mark.parametrize("name", EVIL)
def test_a_name_that_is_rebound_to_us_reads_and_does_nothing(
    name: str, stack: Stack, browser: Browser
) -> None:
    """The page has the very origin that it then calls: what it sends is of the same origin."""
    by_port: dict[str, list[dict[str, str]]] = {}
    for target in stack.targets():
        parts = urlsplit(target["url"])
        # The store closes the connection at the sight of HTTP: no page comes of that.
        if parts.netloc != urlsplit(stack.said["store"]).netloc:
            host = f"runtime.{name}" if parts.netloc == stack.runtime else name
            rebound = f"http://{host}:{parts.port}"
            path = target["url"].partition(parts.netloc)[2]
            by_port.setdefault(rebound, []).append({**target, "url": f"{rebound}{path}"})
    assert len(by_port) >= 6
    for rebound, targets in by_port.items():
        # The refusal itself is of the same origin.
        read = attack(browser, f"{rebound}/page", targets, rebound=True)
        assert [each for each in read if not REFUSAL.search(each)] == []
    assert stack.effects() == QUIET
    answer = httpx.get(f"{stack.api}/after", trust_env=False, timeout=30)
    assert (answer.status_code, answer.text) == (200, stack.runtime)
    stack.calls = stack.seen()


def test_a_page_of_this_machine_reads_and_does_what_the_application_allows(
    stack: Stack, browser: Browser
) -> None:
    """What the other tests send does reach us: a front end on another port may send it."""
    targets = stack.targets()[:3]  # the APIs and the function URL, which allow any origin
    with pages() as port:
        read = attack(browser, f"http://localhost:{port}/", targets)
        for target in targets:  # of any environment, each with an address of its own
            assert [each for each in read if re.search(rf"{re.escape(target['url'])}: 127\.", each)]
        assert len(stack.effects()["calls"]) > 3 * 5
        attack(browser, f"http://localhost:{port}/", stack.targets()[3:9])
    effects = stack.effects()
    assert effects["messages"] > 0
    assert effects["objects"] > 0


def status(url: str, **how: Any) -> int:
    return httpx.post(url, trust_env=False, timeout=60, **how).status_code


def test_a_name_that_was_given_is_answered_by_the_apis_and_the_aws_endpoint(stack: Stack) -> None:
    url, named = f"{stack.api}/x", {"Host": f"{TUNNEL}:8443"}
    page = {**named, "Origin": f"https://{TUNNEL}", "Sec-Fetch-Site": "same-origin"}
    assert [status(url, headers=each) for each in (named, page)] == [200, 200]
    assert status(url, headers={"Host": f"x.{TUNNEL}"}) == 403
    assert status(f"{stack.said['aws']}/x", headers=named) != 403
    assert status(f"{stack.said['console']}/x", headers=named) == 403
    why = f"Host 'x.{TUNNEL}' is not a name of this machine"
    stack.service.logged(f"an API refused a request: {why}")


def test_virtual_hosted_buckets_are_names_below_localhost(stack: Stack) -> None:
    """As SDKs send them that put the bucket before the endpoint's host."""
    aws = urlsplit(stack.said["aws"])
    s3 = boto3.client(
        "s3", region_name="us-east-1", endpoint_url=f"http://localhost:{aws.port}",
        aws_access_key_id="local", aws_secret_access_key="local",
        config=Config(s3={"addressing_style": "virtual"}, signature_version="s3v4"),
    )  # fmt: skip

    def call(name: str, **how: Any) -> httpx.Response:
        url = s3.generate_presigned_url(name, Params={"Bucket": "files", "Key": "kept"})
        parts = urlsplit(url)
        assert parts.netloc == f"files.localhost:{aws.port}"
        # Nothing here resolves that name.
        reached = parts._replace(netloc=aws.netloc).geturl()
        method = name.partition("_")[0].upper()
        return httpx.request(
            method, reached, headers={"Host": parts.netloc}, trust_env=False, timeout=30, **how
        )

    assert call("put_object", content=b"x").status_code == 200
    assert call("get_object").text == "x"
    assert call("delete_object").status_code == 204


def test_sizes_are_those_of_the_gateways(stack: Stack) -> None:
    mb = 1024 * 1024
    function_url = next(url for name, url in stack.said["apis"].items() if "url" in name)
    for url, largest in ((stack.api, 10 * mb), (function_url, 6 * mb)):
        assert status(f"{url}/x", content=bytes(largest + 1)) == 413
        assert status(f"{url}/x", headers={"X-Large": "x" * 9_000}) == 200
    # 6 MB reach the function, as an event.
    text = {"Content-Type": "text/plain"}
    assert status(f"{stack.api}/x", content=b"x" * (6 * mb - 5_000), headers=text) == 200
    assert status(f"{stack.api}/x", content=b"x" * (6 * mb + 1), headers=text) == 413
    assert status(f"{stack.api}/x", headers={"X-Large": "x" * 10_240}) == 431
    assert status(f"{stack.api}/?{'x' * 10_240}") == 431
    assert status(f"{function_url}/x", headers={"X-Large": "x" * 10_240}) == 200
    assert status(f"{function_url}/x", headers={"X-Large": "x" * 65_536}) == 431
