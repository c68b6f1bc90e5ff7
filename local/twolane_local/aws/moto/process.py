"""The emulator's side of the moto process: starts it, sends it the stack, passes requests on.

``MotoValues`` requests the values of a template that only moto knows, in rounds. A
resource may need the value of another one, as a rule needs the name of its bus. Each round creates
the resources that need no unknown value and asks for their values, so that the next round can
create more.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from twolane_local.aws.call import AwsResponse
from twolane_local.aws.moto import faults
from twolane_local.aws.moto.dynamodb import NOW
from twolane_local.aws.moto.faults import Fault
from twolane_local.errors import LocalError
from twolane_local.http import servers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
    from pathlib import Path

    from twolane_local.aws.call import AwsRequest
    from twolane_local.journal import Journal

    Message = MutableMapping[str, Any]
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
#: How long a call may take, in seconds, and how long it waits for the stack: AWS's
#: clients wait for 60.
CALL_LIMIT_S = READY_LIMIT_S = 50.0
#: How often a process that ends while it creates the stack again is replaced.
_TRIES = 3
#: The header of the secret, without which the process answers nobody.
_SECRET = b"x-twolane-secret"
#: The beginning of headers that only we may send.
_OURS = b"x-twolane-"
_VISIBLE = "".join(map(chr, range(0x21, 0x7F)))


class MotoProcess:
    """Moto in a child process, and an ASGI app that passes requests on once the stack exists."""

    def __init__(
        self,
        endpoint: str,
        *,
        persist: Path | None = None,
        now: Callable[[], float] = time.time,
        journal: Journal | None = None,
        restarted: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``endpoint`` is the emulator's own, with the queues. ``persist`` is a folder that keeps
        the tables and objects. If the process ends by itself, it is started again with the stack
        and what was kept, ``journal`` gets a line, and ``restarted`` is called: ids that moto makes
        up are others then. Items of tables expire by ``now``, in seconds since the epoch.
        """
        self._now = now
        self._journal = journal
        self._restarted = restarted
        self._secret = secrets.token_hex(16)
        self._keeps = persist is not None
        self._arguments = [str(os.getpid()), endpoint, *([str(persist)] if persist else [])]
        self._process: asyncio.subprocess.Process | None = None
        self._port: asyncio.Task[int] | None = None
        self._lock = asyncio.Lock()
        self._stack: tuple[str, Mapping[str, Any]] | None = None
        self._created = asyncio.Event()
        #: The process that holds the stack.
        self._holder: asyncio.subprocess.Process | None = None
        self._last: tuple[str, Mapping[str, Any]] | None = None
        self._watching: set[asyncio.Task[None]] = set()
        #: One line for each resource that moto cannot create because of its own fault.
        self.notes: list[str] = []
        #: Threads with the standard library's client: moto takes milliseconds for each call.
        self._callers = ThreadPoolExecutor(_CALLS, "twolane-moto")
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ended(self) -> None:
        """Raises ``LocalError`` if the process ends by itself again and again."""
        await asyncio.shield(self._lost)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Start the process again if it ends by itself, or raise the error from ``ended``."""
        status = await process.wait()
        if self._holder is not process or self._last is None:
            return  # who creates the stack gets the error, and starts the process again
        self._created.clear()
        kept = (
            "what --persist keeps is there again, all else that calls have made is lost"
            if self._keeps
            else "the items of its tables, its objects and all else that calls have made are lost "
            "(--persist DIR keeps tables and objects)"
        )
        self._log(f"the moto process ended ({status}); it is started again with the stack: {kept}")
        for left in reversed(range(_TRIES)):
            try:
                await self._command(*self._last)
                self._is_created()
                break
            except LocalError as error:
                if not left:
                    said = f"the moto process ended ({status}), and its restart failed: {error}"
                    self._lose(said)
                    return
        if self._restarted is not None:
            await self._restarted()

    def _log(self, line: str, level: str = "ERROR", **more: str) -> None:
        if self._journal is not None:
            self._journal.record("log", line=line, level=level, **more)

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
        self._watching.add(asyncio.create_task(self._watch(self._process)))
        commands = self._streams()[1]
        commands.write(f"{self._secret}\n".encode())
        port: int = (await self._line())["port"]
        return port

    async def _running(self) -> int:
        """The port of the process; starts it if needed, also in the place of one that ended."""
        if self._port is None or self._is_over(self._port):
            self._port = asyncio.create_task(self._start())
        return await asyncio.shield(self._port)

    def _is_over(self, port: asyncio.Task[int]) -> bool:
        """Whether the process that was started does not run."""
        if not port.done():
            return False
        failed = port.cancelled() or port.exception() is not None
        return failed or self._process is None or self._process.returncode is not None

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
        if stack is None:
            return
        try:
            await self._command(*stack)
        except BaseException:
            if self._stack is None:  # the next call tries again
                self._stack = stack
            raise
        self._is_created()

    def _is_created(self) -> None:
        """The process holds the stack, and may be called."""
        self._holder = self._process
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
        answers = await self._command(name, {**template, "Outputs": outputs}, partial=True)
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

    async def _command(
        self, name: str, template: Mapping[str, Any], *, partial: bool = False
    ) -> Mapping[str, Any]:
        command = {"name": name, "template": template, "partial": partial}
        answer = await self._ask_child(command)
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
                if self._last is not None:
                    self._log(note)

    async def _ask_child(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        # To its end, also if who asks gives up: the next one would get this one's answer.
        asking = asyncio.create_task(self._exchange(command))
        asking.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(asking)

    async def _exchange(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        async with self._lock:
            await self._running()
            commands = self._streams()[1]
            commands.write(json.dumps(command).encode() + b"\n")
            with suppress(ConnectionError):  # it has ended: no line comes
                await commands.drain()
            return await self._line()

    async def deliver(self, arn: str, body: str) -> None:
        """Publish to an SNS topic or put an event on a bus: an asynchronous destination."""
        await self._create_now()
        answer = await self._ask_child({"deliver": arn, "body": body})
        if "error" in answer:
            raise LocalError(f"nothing is delivered to {arn}: {answer['error']}")

    async def stop(self) -> None:
        for watching in self._watching:
            watching.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
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
        given = [(name, value) for name, value in headers if not name.startswith(_OURS)]
        own = [(NOW.encode(), b"%.6f" % self._now()), (_SECRET, self._secret.encode())]
        try:
            async with asyncio.timeout(READY_LIMIT_S):
                await self._create_now()
                await self._created.wait()  # a function may call before its table exists
            if self._port is None or self._is_over(self._port):
                raise LocalError(_ENDED)
            port = self._port.result()
            answer = await asyncio.get_running_loop().run_in_executor(
                self._callers, _ask, port, method, target, [*given, *own], body
            )
        except (OSError, http.client.HTTPException, LocalError) as error:
            # Of a timeout it is the text, of anything else the process has ended.
            slow = isinstance(error, TimeoutError)
            said = f"moto did not answer within {CALL_LIMIT_S:g} s" if slow else _ENDED
            return _unavailable(method, target, given, body, said)
        return self._without_traceback(answer)

    def _without_traceback(self, answer: _Answer) -> _Answer:
        """The answer, after the traceback of a fault of moto's has gone to the log."""
        status, headers, content = answer
        if status < 400:
            return answer
        kept = []
        for name, value in headers:
            if name == faults.TRACEBACK.encode():
                line = faults.decoded(value.decode("latin-1"))
                self._log(line, "DEBUG", logger="moto")
            else:
                kept.append((name, value))
        return status, kept, content


#: AWS's clients send such a call again.
#: https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
_ENDED = "the moto process ended before it answered and is started again; try again"


def _unavailable(
    method: str, target: str, headers: Iterable[tuple[bytes, bytes]], body: bytes, why: str
) -> _Answer:
    path, _, query = target.partition("?")
    named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
    call = faults.call_of(method, path, query, named, body)
    status, given, content = faults.answer(call, Fault(503, "ServiceUnavailable", why))
    return status, [(name.encode(), value.encode()) for name, value in given], content


def _ask(
    port: int, method: str, target: str, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> _Answer:
    """Send one request to the process; blocks.

    Raises ``OSError`` or ``HTTPException`` if the process ends before it has answered.
    """
    limit_s = CALL_LIMIT_S
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=limit_s)) as connection:
        # A client may send bytes in a path that the library takes for an error of ours.
        target = quote(target.encode("latin-1"), safe=_VISIBLE)
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


#: The prefix of placeholders for unknown values.
_OPEN = "twolane-not-yet-"


class MotoValues:
    """``elsewhere`` and ``look_up`` are those of the template's ``Facts``."""

    def __init__(self, moto: MotoProcess) -> None:
        self._moto = moto
        self._known: dict[tuple[str, str | None], Any] = {}
        self._asked: set[tuple[str, str | None]] = set()
        self._missing: dict[tuple[str, str | None], None] = {}
        self._found: dict[str, str] = {}
        self._looked: set[str] = set()
        self._references: dict[str, None] = {}
        self._is_last = False

    def elsewhere(self, name: str, attribute: str | None) -> Any:
        """The value of a ``Ref`` (``None``) or attribute; raises ``KeyError`` if moto has none."""
        key = name, attribute
        if key in self._known:
            return self._known[key]
        if self._is_last or key in self._asked:
            if attribute == "Arn":
                # moto has no Arn for resources whose Ref is the ARN, such as state machines.
                reference = self.elsewhere(name, None)
                if str(reference).startswith(("arn:", _OPEN)):
                    return reference
            raise KeyError(key)
        self._missing[key] = None
        return f"{_OPEN}{name}-{attribute}"

    def look_up(self, reference: str) -> str | None:
        """The value of a dynamic reference, ``None`` if it is not known yet."""
        self._references[reference] = None
        return self._found.get(reference)

    async def ask(self, name: str, template: Mapping[str, Any]) -> bool:
        """Ask for the values that the template needs; returns True if it must be read again."""
        if self._is_last:
            return False
        ready = without_open_values(template)
        wanted = [key for key in self._missing if key[0] in ready["Resources"]]
        references = [each for each in self._references if each not in self._looked]
        references = references if self._moto.may_hold_references(ready) else []
        if not wanted and not references:
            self._is_last = True
            return bool(self._missing)
        self._known |= await self._moto.values(name, ready, wanted)
        self._asked.update(wanted)
        self._missing.clear()
        if references:
            self._found |= await self._moto.look_up(references)
            self._looked.update(references)
        return True


def without_open_values(template: Mapping[str, Any]) -> dict[str, Any]:
    """The template without the entries that need an unknown value."""
    return {name: _without_open_values(section) for name, section in template.items()}


def _without_open_values(section: Any) -> Any:
    if isinstance(section, dict):
        return {
            key: value for key, value in section.items() if _OPEN not in json.dumps([key, value])
        }
    if isinstance(section, list):
        return [value for value in section if _OPEN not in json.dumps(value)]
    return section
