# ruff: noqa: ARG002 -- the two APIs have more to say than is timed
"""One execution environment, with the real ``awslambdaric`` in a child process, to be timed.

The emulator's server of the two APIs, without the emulator around it.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import re
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from twolane_local.aws.lambda_ import runtime_api

if TYPE_CHECKING:
    from types import TracebackType

    from twolane_local.aws.lambda_.runtime_api import Reply

ROOT = Path(__file__).parents[1]


#: What Lambda's own runtime brings along.
RUNTIME = (
    "awslambdaric", "simplejson", "snapshot-restore-py",
    "boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3",
)  # fmt: skip


def deploy(folder: Path) -> Path:
    """A directory with what an environment holds, and no more: an import that looks for an optional
    package does not find it there, nor do the plugins of whatever else is installed here.
    """
    task = folder / "deployed"
    task.mkdir()
    pinned = (ROOT / "handlers" / "requirements.txt").read_text()
    for name in {*RUNTIME, *re.findall(r"^([A-Za-z0-9._-]+)==", pinned, re.MULTILINE)}:
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            link, target = task / top, Path(str(files[0].locate())).parents[len(files[0].parts) - 1]
            if not link.exists():
                link.symlink_to(target / top)
    return task


class Environment:
    """``async with Environment("module.handler", …) as environment``: started, not yet invoked."""

    def __init__(self, handler: str, folder: Path, environ: dict[str, str]) -> None:
        self._handler = handler
        self._folder = folder
        self._environ = environ
        self._extensions = 0
        self._asking: dict[str, Reply] = {}
        self._changed = asyncio.Event()
        self._response: bytes | None = None
        self.started = 0.0

    async def __aenter__(self) -> Self:
        self._server, address = await runtime_api.serve(self, self._environ)
        places = (ROOT / "handlers", self._folder, self._folder / "deployed")
        self.started = time.perf_counter()
        self._process = await asyncio.create_subprocess_exec(
            # Without this installation's site-packages; see ``deploy``.
            sys.executable, "-S", "-m", "awslambdaric", self._handler,
            cwd=self._folder,
            stdout=asyncio.subprocess.DEVNULL,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join(map(str, places)),
                "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
                "AWS_LAMBDA_FUNCTION_NAME": "Api",
                "AWS_LAMBDA_RUNTIME_API": address,
                "AWS_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
                "AWS_SECRET_ACCESS_KEY": "secret",
                **self._environ,
            },
        )  # fmt: skip
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        await self._process.wait()
        self._server.close()

    async def invoke(self, event: dict[str, Any]) -> tuple[dict[str, Any], float, float]:
        """The response, seconds until it was posted, and when that was (``perf_counter``)."""
        body = json.dumps(event).encode()
        await self._until(self._idle)
        request_id = str(uuid.uuid4())
        deadline_ms = int((time.time() + 30) * 1000)
        self._response = None
        asking, self._asking = self._asking, {}
        sent = time.perf_counter()
        headers = f"Lambda-Runtime-Aws-Request-Id: {request_id}\r\n"
        headers += f"Lambda-Runtime-Deadline-Ms: {deadline_ms}\r\n"
        asking.pop("runtime").send(200, body, headers.encode())
        notice = {"eventType": "INVOKE", "requestId": request_id, "deadlineMs": deadline_ms}
        for extension in asking.values():
            extension.send(200, json.dumps(notice).encode())
        await self._until(lambda: self._response is not None)
        answer: dict[str, Any] = json.loads(self._response or b"{}")
        return answer, self._posted - sent, self._posted

    def _idle(self) -> bool:
        return len(self._asking) == self._extensions + 1

    async def _until(self, condition: Any) -> None:
        while not condition():
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 30)

    # What the runtime and its extension call.
    def runtime_next(self, reply: Reply) -> None:
        self._asking["runtime"] = reply
        self._changed.set()

    def runtime_response(self, request_id: str, body: bytes, reply: Reply) -> None:
        self._posted = time.perf_counter()
        runtime_api.accept(reply)
        self._response = body
        self._changed.set()

    def runtime_error(self, request_id: str, body: bytes, reply: Reply) -> None:
        raise RuntimeError(body.decode())

    def init_error(self, body: bytes, reply: Reply) -> None:
        raise RuntimeError(body.decode())

    def extension_register(self, name: str, events: list[str], reply: Reply) -> None:
        self._extensions += 1
        reply.send(200, b"{}", b"Lambda-Extension-Identifier: 1\r\n")

    def extension_next(self, identifier: str, reply: Reply) -> None:
        self._asking["extension"] = reply
        self._changed.set()

    def extension_error(self, identifier: str, body: bytes, reply: Reply) -> None:
        raise RuntimeError(body.decode())
