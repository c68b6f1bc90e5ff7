"""The endpoint on a socket, called in both protocols of SQS by raw HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import uvicorn

from twolane_local.aws.endpoint import AwsEndpoint
from twolane_local.aws.lambda_.asynchronous import AsyncInvocations
from twolane_local.aws.sqs.service import QueueService
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal

NAMESPACE = "{http://queue.amazonaws.com/doc/2012-11-05/}"
#: The form's names of what the JSON protocol names otherwise.
LISTS = {
    "AttributeNames": "AttributeName",
    "MessageAttributeNames": "MessageAttributeName",
    "TagKeys": "TagKey",
    "AWSAccountIds": "AWSAccountId",
    "Actions": "ActionName",
}
MAPS = {
    "Attributes": ("Attribute", "Name"),
    "MessageAttributes": ("MessageAttribute", "Name"),
    "tags": ("Tag", "Key"),
    "Tags": ("Tag", "Key"),
}


class LaterClock(SystemClock):
    """Real time, and what a test adds to it."""

    added = 0.0

    def time(self) -> float:
        return super().time() + self.added


class Wire:
    """The endpoint on a free port, its loop in a thread, until ``close``."""

    def __init__(self) -> None:
        self.clock = LaterClock()
        journal = Journal(self.clock)
        self.queues = QueueService(self.clock, journal)
        invocations = AsyncInvocations(None, {}, self.queues, self.clock, journal)
        app = AwsEndpoint(
            self.queues, None, fallback=None, functions={}, asynchronous=invocations
        )  # fmt: skip
        self._server = uvicorn.Server(
            uvicorn.Config(app, port=0, log_level="error", lifespan="off")
        )
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._started.wait(20)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def _serve(self) -> None:
        serving = asyncio.create_task(self._server.serve())
        while not self._server.started:  # uvicorn offers no event for it
            await asyncio.sleep(0.005)
        self._started.set()
        await serving

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)

    def http(
        self, method: str, path: str, body: str = "", *, region: str = "us-east-1",
        key: str = "test", **headers: str,
    ) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
        """One signed request: status, headers, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        scope = f"AWS4-HMAC-SHA256 Credential={key}/20261130/{region}/sqs/aws4_request"
        named = {"authorization": f"{scope}, SignedHeaders=host, Signature=0"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body.encode(), named)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        answer = response.status, found, response.read()
        connection.close()
        return answer

    def json(
        self, action: str, params: dict[str, Any] | None = None, **options: str
    ) -> tuple[int, dict[str, Any]]:
        """A call in the JSON protocol: status and answer."""
        status, _, body = self.http(
            "POST", "/", json.dumps(params or {}), x_amz_target=f"AmazonSQS.{action}",
            content_type="application/x-amz-json-1.0", **options,
        )  # fmt: skip
        return status, json.loads(body)

    def query(
        self, action: str, params: dict[str, Any] | None = None, **options: str
    ) -> tuple[int, ET.Element]:
        """A call in the query protocol: status and document."""
        form = urlencode({"Action": action, **flat(params or {}, action)})
        status, headers, body = self.http(
            "POST", "/", form, content_type="application/x-www-form-urlencoded", **options
        )
        assert headers["content-type"] == "text/xml"
        return status, ET.fromstring(body)


def flat(params: dict[str, Any], action: str = "") -> dict[str, str]:
    """Parameters of the JSON protocol as those of a form."""
    form: dict[str, str] = {}
    for name, value in params.items():
        if isinstance(value, list):
            prefix = f"{action}RequestEntry" if name == "Entries" else LISTS[name]
            for number, each in enumerate(value, 1):
                inner = flat(each) if isinstance(each, dict) else {"": each}
                form |= {
                    f"{prefix}.{number}.{key}".rstrip("."): held for key, held in inner.items()
                }
        elif isinstance(value, dict):
            prefix, key = MAPS[name]
            for number, (label, held) in enumerate(value.items(), 1):
                form[f"{prefix}.{number}.{key}"] = label
                inner = held if isinstance(held, dict) else {"": held}
                for part, text in inner.items():
                    form[f"{prefix}.{number}.Value.{part}".rstrip(".")] = text
        else:
            form[name] = str(value)
    return form


def text(document: ET.Element, name: str) -> str | None:
    """The text of the first element of that name."""
    return document.findtext(f".//{NAMESPACE}{name}")
