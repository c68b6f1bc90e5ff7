"""The emulator's side of the moto process: starts it, sends it the stack, passes requests on."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

from twolane_local.aws.call import AwsResponse
from twolane_local.aws.moto.dynamodb import NOW
from twolane_local.errors import LocalError
from twolane_local.http import servers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
    from pathlib import Path

    from twolane_local.aws.call import AwsRequest
    from twolane_local.journal import Journal

    Message = MutableMapping[str, Any]
    #: Status, headers and body.
    _Answer = tuple[int, list[tuple[bytes, bytes]], bytes]

_QUEUE = "AWS::SQS::Queue"
#: Headers of one connection (RFC 9110, 7.6.1), which are not passed on.
_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer",
                  b"upgrade", b"content-length", b"expect", b"proxy-connection"})  # fmt: skip


def needs_moto(template: Mapping[str, Any]) -> bool:
    """True if a resource of the template works in moto; queues are only names there."""
    kinds = {resource["Type"] for resource in template["Resources"].values()}
    rest = ("Identities", "Notifications", "Rules", "Secrets", "Subscriptions")
    return bool(kinds - {_QUEUE}) or any(template.get(name) for name in rest)


#: The limit of S3 for one upload: https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html
_LIMIT = 5 * 1024**3
#: The calls to moto at the same time, at most.
_CALLS = 32


class MotoProcess:
    """Moto in a child process, and an ASGI app that passes requests on once the stack exists."""

    def __init__(
        self,
        endpoint: str,
        *,
        persist: Path | None = None,
        now: Callable[[], float] = time.time,
        journal: Journal | None = None,
    ) -> None:
        """``endpoint`` is the emulator's own, with the queues. ``persist`` is a folder that keeps
        the tables; with it, the process is restarted if it ends by itself, and ``journal`` gets a
        line. Items of tables expire by ``now``, in seconds since the epoch.
        """
        self._now = now
        self._journal = journal
        self._keeps = persist is not None
        self._arguments = [str(os.getpid()), endpoint, *([str(persist)] if persist else [])]
        self._process: asyncio.subprocess.Process | None = None
        self._port: asyncio.Task[int] | None = None
        self._lock = asyncio.Lock()
        self._stack: tuple[str, Mapping[str, Any]] | None = None
        self._created = asyncio.Event()
        self._last: tuple[str, Mapping[str, Any]] | None = None
        self._watching: asyncio.Task[None] | None = None
        #: One line for each resource that moto cannot create because of its own fault.
        self.notes: list[str] = []
        #: Threads with the standard library's client: moto takes milliseconds for each call.
        self._callers = ThreadPoolExecutor(_CALLS, "twolane-moto")
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ended(self) -> None:
        """Raises ``LocalError`` if the process ends by itself and is not restarted."""
        await asyncio.shield(self._lost)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Restart the process if it ends by itself, or raise the error from ``ended``."""
        status = await process.wait()
        if not self._created.is_set() or self._last is None:
            return  # ``_start`` or ``create`` raises
        if not self._keeps:
            self._lose(
                f"the moto process ended ({status}); the content of its tables and buckets is lost "
                "without --persist: start again"
            )
            return
        if self._journal is not None:
            line = f"the moto process ended ({status}); it is restarted with the kept data"
            self._journal.record("log", line=line, level="ERROR")
        self._port = None
        self._created.clear()
        try:
            await self._command(*self._last)
        except LocalError as error:
            self._lose(f"the moto process ended ({status}), and its restart failed: {error}")
        else:
            self._created.set()

    def _lose(self, text: str) -> None:
        if not self._lost.done():
            self._lost.set_exception(LocalError(text))

    async def _start(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "twolane_local.aws.moto.child", *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=1 << 24,
        )  # fmt: skip
        self._watching = asyncio.create_task(self._watch(self._process))
        port: int = (await self._line())["port"]
        return port

    async def _running(self) -> int:
        """The port of the process; starts it if needed."""
        if self._port is None:
            self._port = asyncio.create_task(self._start())
        return await asyncio.shield(self._port)

    async def _line(self) -> dict[str, Any]:
        line = await self._streams()[0].readline()
        if not line:
            raise LocalError("the moto process ended; its output is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._process is None or self._process.stdout is None or self._process.stdin is None:
            raise LocalError("the moto process was not started")
        return self._process.stdout, self._process.stdin

    async def create(self, name: str, template: Mapping[str, Any]) -> None:
        """Create or update the stack; raises ``LocalError``.

        If no resource needs moto, that waits until a call does.
        """
        self._stack = self._last = (name, template)
        self._created.clear()
        if self._port is not None or needs_moto(template):
            await self._create_now()

    async def _create_now(self) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await self._command(*stack)
            self._created.set()

    async def values(
        self,
        name: str,
        template: Mapping[str, Any],
        wanted: Iterable[tuple[str, str | None]],
    ) -> dict[tuple[str, str | None], Any]:
        """Create the stack; returns values by (logical id, attribute, or ``None`` for ``Ref``).

        Values that moto does not have are left out.
        """
        keys = {f"Value{index}": key for index, key in enumerate(wanted)}
        outputs = {
            output: {"Value": {"Fn::GetAtt": [name, attribute]} if attribute else {"Ref": name}}
            for output, (name, attribute) in keys.items()
            if name in template["Resources"]
        }
        answers = await self._command(name, {**template, "Outputs": outputs})
        return {key: answers[output] for output, key in keys.items() if output in answers}

    def may_hold_references(self, template: Mapping[str, Any]) -> bool:
        """True if moto has parameters or secrets, or will have them with the template."""
        kinds = {resource["Type"] for resource in template["Resources"].values()}
        declared = bool(template.get("Secrets")) or "AWS::SSM::Parameter" in kinds
        return declared or self._port is not None

    async def look_up(self, references: Iterable[str]) -> Mapping[str, str]:
        """The values of dynamic references to existing parameters and secrets."""
        answer = await self._ask_child({"look_up": list(references)})
        if "error" in answer:
            raise LocalError(f"moto cannot look up {', '.join(references)}: {answer['error']}")
        found: Mapping[str, str] = answer["found"]
        return found

    async def _command(self, name: str, template: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = await self._ask_child({"name": name, "template": template})
        if "error" in answer:
            raise LocalError(f"moto cannot create the stack: {answer['error']}")
        self._note(answer["failed"], template.get("Where") or {})
        outputs: Mapping[str, Any] = answer["outputs"]
        return outputs

    def _note(self, failed: Mapping[str, str], where: Mapping[str, str]) -> None:
        for name, why in failed.items():
            place = f"{where[name]}: " if name in where else ""
            note = f"{place}{name} is not emulated: moto cannot create it ({why})"
            if note not in self.notes:
                self.notes.append(note)
                if self._journal is not None and self._last is not None:
                    self._journal.record("log", line=note, level="ERROR")

    async def _ask_child(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        await self._running()
        async with self._lock:
            commands = self._streams()[1]
            commands.write(json.dumps(command).encode() + b"\n")
            await commands.drain()
            return await self._line()

    async def deliver(self, arn: str, body: str) -> None:
        """Publish to an SNS topic or put an event on a bus: an asynchronous destination."""
        await self._create_now()
        answer = await self._ask_child({"deliver": arn, "body": body})
        if "error" in answer:
            raise LocalError(f"nothing is delivered to {arn}: {answer['error']}")

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        if self._lost.done():
            self._lost.exception()  # mark it as retrieved; ``ended`` has raised it
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._callers.shutdown(wait=False)
        if self._port is not None:
            self._port.cancel()
            await asyncio.wait([self._port])
            if not self._port.cancelled():
                self._port.exception()  # mark it as retrieved; ``_running`` has raised it

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        try:
            body = await servers.read_body(receive, _LIMIT)
        except servers.ClientGoneError:
            return
        target = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("latin-1")
        status, headers, content = await self._pass_on(
            scope["method"], target, scope["headers"], body
        )
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def call(self, request: AwsRequest) -> AwsResponse:
        """Answer a call from within the emulator; an ``AwsService``."""
        target = f"{request.path}?{request.query}" if request.query else request.path
        given = [(name.encode(), value.encode()) for name, value in request.headers.items()]
        status, headers, body = await self._pass_on(request.method, target, given, request.body)
        shown = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        return AwsResponse(status, body, shown)

    async def _pass_on(
        self, method: str, target: str, headers: Iterable[tuple[bytes, bytes]], body: bytes
    ) -> _Answer:
        await self._create_now()
        await self._created.wait()  # a function may call before its table exists
        port = await self._running()
        headers = [*headers, (NOW.encode(), b"%.6f" % self._now())]
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._callers, _ask, port, method, target, headers, body
            )
        except (OSError, http.client.HTTPException):
            # AWS's clients retry this status.
            # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
            text = b"the moto process ended before it answered; try again"
            return 503, [(b"content-length", b"%d" % len(text))], text


def _ask(
    port: int, method: str, target: str, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> _Answer:
    """Send one request to the process; blocks.

    Raises ``OSError`` or ``HTTPException`` if the process ends before it has answered.
    """
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            if name.lower() not in _HOP:
                connection.putheader(name.decode("latin-1"), value)
        connection.putheader("content-length", len(body))
        connection.putheader("connection", "close")
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        # The response to HEAD has the length of the body that GET would return.
        length = answer.getheader("content-length") if method == "HEAD" else None
        given = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in answer.getheaders()
        ]
    kept = [(name, value) for name, value in given if name not in _HOP]
    size = (length or str(len(content))).encode()
    return answer.status, [*kept, (b"content-length", size)], content
