"""The real runtime client in a real child process."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.aws import guard
from twolane_local.aws.lambda_.functions import Functions
from twolane_local.aws.lambda_.isolated import IsolatedEnvironment
from twolane_local.aws.lambda_.launchers import ForkLauncher
from twolane_local.aws.lambda_.process import Launcher, SpawnLauncher
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec

if TYPE_CHECKING:
    from twolane_local.aws.lambda_.environment import Environment, Owner
    from twolane_local.aws.lambda_.process import Hear, Launch, Process
    from twolane_local.aws.lambda_.runtime_api import Reply

HANDLER = """
import http.client, json, os, sys, threading, time
print("init line")
state = {"count": 0}

def handler(event, context):
    state["count"] += 1
    print("out", event.get("say", ""))
    print("err", file=sys.stderr)
    if "sleep" in event: time.sleep(event["sleep"])
    if "raise" in event: raise ValueError(event["raise"])
    if "exit" in event: os._exit(event["exit"])
    if "connect" in event:
        import socket
        socket.create_connection((event["connect"], 443))
    if "size" in event: return "x" * event["size"]
    return {
        "count": state["count"], "pid": os.getpid(), "id": context.aws_request_id,
        "remaining": context.get_remaining_time_in_millis(), "cwd": os.getcwd(),
        "environ": dict(os.environ),
    }
"""


class Bench:
    """A function with isolated environments, and what the journal saw of it."""

    def __init__(
        self,
        folder: Path,
        code: str,
        launcher: Callable[[], Launcher],
        kind: type[IsolatedEnvironment] = IsolatedEnvironment,
        **fields: Any,
    ) -> None:
        (folder / "module.py").write_text(code)
        self.journal = Journal(SystemClock())
        self.spec = FunctionSpec(
            "fn", "Fn", "module.handler", folder, **{"timeout_s": 5.0, **fields}
        )
        self.launcher = launcher()
        self.kind = kind
        self.functions = Functions([self.spec], self.make, self.journal)

    def make(self, spec: FunctionSpec, owner: Owner) -> Environment:
        environ = guard.function_environment(spec, endpoint_url="http://127.0.0.1:1")
        return self.kind(spec, environ, owner=owner, launcher=self.launcher, journal=self.journal)

    async def __call__(self, **event: Any) -> tuple[Any, str | None]:
        outcome = await self.functions.invoke("fn", json.dumps(event).encode())
        return json.loads(outcome.payload), outcome.error

    def kinds(self) -> list[str]:
        return [event.kind for event in self.journal]

    async def until(self, kind: str) -> None:
        """Until the journal has an event of that kind."""
        seen = asyncio.Event()
        unsubscribe = self.journal.subscribe(lambda event: event.kind == kind and seen.set())
        if kind not in self.kinds():
            await asyncio.wait_for(seen.wait(), 10)
        unsubscribe()


def run(
    folder: Path,
    script: Any,
    code: str = HANDLER,
    launcher: Callable[[], Launcher] = SpawnLauncher,
    **fields: Any,
) -> None:
    async def main() -> None:
        bench = Bench(folder, code, launcher, **fields)
        try:
            await script(bench)
        finally:
            await bench.functions.close()
            await bench.launcher.close()

    asyncio.run(main())


both = pytest.mark.parametrize("launcher", [SpawnLauncher, ForkLauncher])


def stock() -> Launcher:
    """Fresh interpreters with AWS's runtime client as it ships."""
    return SpawnLauncher(stock=True)


every = pytest.mark.parametrize("launcher", [SpawnLauncher, ForkLauncher, stock])
Start = Callable[[], Launcher]


async def stopped(pid: int) -> None:
    """Until the kernel has stopped the process: a signal takes its time."""
    async with asyncio.timeout(10):
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            await asyncio.sleep(0.001)


class Late:
    """A launcher that returns only after the child has asked for its first invocation."""

    def __init__(self) -> None:
        self.inner = SpawnLauncher()
        self.asked = asyncio.Event()

    async def launch(self, what: Launch, hear: Hear) -> Process:
        process = await self.inner.launch(what, hear)
        await asyncio.wait_for(self.asked.wait(), 10)
        return process

    async def close(self) -> None:
        await self.inner.close()


class Heard(IsolatedEnvironment):
    def runtime_next(self, reply: Reply) -> None:
        super().runtime_next(reply)
        launcher = self._launcher
        assert isinstance(launcher, Late)
        # After whatever the call itself has brought about.
        self._loop.call_later(0.05, launcher.asked.set)


def test_an_environment_that_asks_before_its_launch_is_known_serves_what_waits(
    tmp_path: Path,
) -> None:
    async def script(bench: Bench) -> None:
        answers = await asyncio.wait_for(asyncio.gather(bench(say="one"), bench(say="two")), 10)
        assert [error for _, error in answers] == [None, None]

    run(tmp_path, script, launcher=Late, kind=Heard)


@every
def test_an_environment_is_reused_and_frozen_in_between(tmp_path: Path, launcher: Start) -> None:
    async def script(bench: Bench) -> None:
        first, error = await bench(say="hello")
        assert error is None
        await bench.until("environment.frozen")
        await stopped(first["pid"])
        second, _ = await bench()
        assert second["pid"] == first["pid"]
        assert (first["count"], second["count"]) == (1, 2)
        assert first["cwd"] == str(tmp_path)
        assert 4000 < first["remaining"] <= 5000

    run(tmp_path, script, launcher=launcher)


def test_reserved_variables_and_dummy_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real-secret")
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")

    async def script(bench: Bench) -> None:
        result, _ = await bench()
        environ = result["environ"]
        assert environ["AWS_LAMBDA_FUNCTION_NAME"] == "fn"
        assert environ["AWS_SECRET_ACCESS_KEY"] == "local"
        assert environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
        assert environ["MINE"] == "yes"
        assert environ["LAMBDA_TASK_ROOT"] == str(tmp_path)
        assert not {"AWS_PROFILE", "HTTPS_PROXY", "HOME"} & environ.keys()

    run(tmp_path, script, environment={"MINE": "yes"})


@every
def test_output_is_in_the_journal_with_its_request(tmp_path: Path, launcher: Start) -> None:
    async def script(bench: Bench) -> None:
        outcome = await bench.functions.invoke("fn", b'{"say": "hi"}', request_id="r-1")
        await bench.until("invocation.ended")
        lines = {
            event.data["line"]: event.request_id for event in bench.journal if event.kind == "log"
        }
        assert lines == {"init line": None, "out hi": "r-1", "err": "r-1"}
        tail = outcome.log_tail().decode()
        assert tail.startswith("START RequestId: r-1 Version: $LATEST\nout hi\n")
        assert "END RequestId: r-1\nREPORT RequestId: r-1\tDuration: " in tail
        assert "Init Duration: " in tail

    run(tmp_path, script, launcher=launcher)


@every
def test_a_function_error_is_as_lambda_shapes_it(tmp_path: Path, launcher: Start) -> None:
    async def script(bench: Bench) -> None:
        error, kind = await bench(**{"raise": "bad"})
        assert kind == "Unhandled"
        assert (error["errorType"], error["errorMessage"]) == ("ValueError", "bad")
        assert "module.py" in error["stackTrace"][0]
        _, kind = await bench()
        assert kind is None

    run(tmp_path, script, launcher=launcher)


@both
def test_a_timeout_kills_and_the_next_environment_is_new(tmp_path: Path, launcher: Start) -> None:
    async def script(bench: Bench) -> None:
        error, kind = await bench(sleep=30)
        assert kind == "Unhandled"
        assert error["errorType"] == "Sandbox.Timedout"
        assert error["errorMessage"].endswith("Error: Task timed out after 0.50 seconds")
        result, _ = await bench()
        assert result["count"] == 1

    run(tmp_path, script, timeout_s=0.5, launcher=launcher)


@both
def test_a_crash_is_an_exit_error_and_the_next_environment_is_new(
    tmp_path: Path, launcher: Start
) -> None:
    async def script(bench: Bench) -> None:
        error, kind = await bench(exit=3)
        assert kind == "Unhandled"
        assert error["errorType"] == "Runtime.ExitError"
        assert error["errorMessage"].endswith("Runtime exited with error: exit status 3")
        result, _ = await bench()
        assert result["count"] == 1

    run(tmp_path, script, launcher=launcher)


@every
def test_environments_share_nothing_that_the_functions_own_modules_made(
    tmp_path: Path, launcher: Start
) -> None:
    (tmp_path / "own.py").write_text("import uuid\nMADE = uuid.uuid4().hex")
    code = "from own import MADE\nimport os\ndef handler(event, context):\n"
    code += "    if 'exit' in event: os._exit(1)\n    return MADE"

    async def script(bench: Bench) -> None:
        one, _ = await bench()
        await bench(exit=True)
        other, _ = await bench()
        assert one != other

    run(tmp_path, script, code, launcher=launcher)


def test_a_killed_environment_is_replaced(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        result, _ = await bench()
        await bench.until("invocation.ended")
        os.kill(result["pid"], 9)
        await bench.until("environment.stopped")
        again, error = await bench()
        assert error is None
        assert again["pid"] != result["pid"]

    run(tmp_path, script)


@both
@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("import nothing_there", "Runtime.ImportModuleError", "No module named 'nothing_there'"),
        ("handlers = 1", "Runtime.HandlerNotFound", "Handler 'handler' missing on module"),
        ("1 +", "Runtime.UserCodeSyntaxError", "Syntax error in module 'module'"),
        ("raise RuntimeError('early')", "RuntimeError", "early"),
        ("import os; os._exit(4)", "Runtime.ExitError", "exit status 4"),
    ],
)
def test_init_failures(tmp_path: Path, code: str, kind: str, words: str, launcher: Start) -> None:
    async def script(bench: Bench) -> None:
        error, outcome = await bench()
        assert outcome == "Unhandled"
        assert error["errorType"] == kind
        assert words in error["errorMessage"]

    run(tmp_path, script, code, launcher=launcher)


@every
def test_a_response_above_six_megabytes_is_refused(tmp_path: Path, launcher: Start) -> None:
    async def script(bench: Bench) -> None:
        result, kind = await bench(size=6 * 1024 * 1024 - 200)
        assert (len(result), kind) == (6 * 1024 * 1024 - 200, None)
        error, kind = await bench(size=6 * 1024 * 1024 + 200)
        assert kind == "Unhandled"
        assert error["errorType"] == "Function.ResponseSizeTooLarge"
        result, kind = await bench(size=1)
        assert (result, kind) == ("x", None)

    run(tmp_path, script, launcher=launcher, timeout_s=20.0, memory_mb=512)


@both
@pytest.mark.parametrize(
    "host", ["sqs.us-east-1.amazonaws.com", "SQS.amazonaws.com.", "169.254.169.254"]
)
def test_real_aws_is_refused_by_name(tmp_path: Path, host: str, launcher: Start) -> None:
    async def script(bench: Bench) -> None:
        error, _ = await bench(connect=host)
        assert error["errorType"] == "ConnectionRefusedError"
        assert "twolane refused a connection to real AWS" in error["errorMessage"]

    run(tmp_path, script, launcher=launcher)


EXTENSION = """
import http.client, json, os, threading
HOST = os.environ["AWS_LAMBDA_RUNTIME_API"]
connection = http.client.HTTPConnection(HOST)

def call(method, path, headers, body=None):
    connection.request(method, "/2020-01-01/extension/" + path, body, headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.headers), json.loads(answer.read())

status, headers, refused = call("POST", "register", {"Lambda-Extension-Name": "x"},
                                '{"events": ["SHUTDOWN"]}')
assert (status, refused["errorType"]) == (403, "ShutdownEventNotSupportedForInternalExtension")
status, headers, body = call("POST", "register", {"Lambda-Extension-Name": "x"},
                             '{"events": ["INVOKE"]}')
me = {"Lambda-Extension-Identifier": headers["Lambda-Extension-Identifier"]}
assert body["functionName"] == "fn", body
release = threading.Event()
told = threading.Event()
seen = []

def loop():
    while True:
        _, _, event = call("GET", "event/next", me)
        seen.append(event["requestId"])
        told.set()
        release.wait(10)
        release.clear()
        print("after", event["eventType"])

threading.Thread(target=loop, daemon=True).start()

def handler(event, context):
    told.wait(10)
    threading.Timer(event["after"], release.set).start()
    return seen
"""


@every
def test_the_response_leaves_before_the_extension_is_done(tmp_path: Path, launcher: Start) -> None:
    async def script(bench: Bench) -> None:
        outcome = await bench.functions.invoke("fn", b'{"after": 0.3}', request_id="r-1")
        assert json.loads(outcome.payload) == ["r-1"]
        assert "invocation.ended" not in bench.kinds()
        await bench.until("invocation.ended")
        assert [event.data["line"] for event in bench.journal if event.kind == "log"] == [
            "after INVOKE"
        ]

    run(tmp_path, script, EXTENSION, launcher=launcher)


def test_the_timeout_covers_what_comes_after_the_response(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        outcome = await bench.functions.invoke("fn", b'{"after": 20}')
        assert outcome.error is None
        await bench.until("environment.stopped")
        lines = [event.data["line"] for event in bench.journal if event.kind == "log"]
        assert any("timed out after 0.5 s with the response sent" in line for line in lines)

    run(tmp_path, script, EXTENSION, timeout_s=0.5)


@both
def test_nothing_is_left_after_close(tmp_path: Path, launcher: Start) -> None:
    pids: list[int] = []

    async def script(bench: Bench) -> None:
        outcomes = await asyncio.gather(*(bench(sleep=0.1) for _ in range(3)))
        pids.extend({result["pid"] for result, _ in outcomes})

    run(tmp_path, script, launcher=launcher)
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_environments_that_a_fork_server_made_die_with_it(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        result, _ = await bench()
        await bench.until("environment.frozen")
        ((server,),) = bench.launcher._servers.values()  # type: ignore[attr-defined]
        server._popen.kill()
        await bench.until("environment.stopped")
        again, error = await bench()
        assert error is None
        assert again["pid"] != result["pid"]

    run(tmp_path, script, launcher=ForkLauncher)


def test_a_thread_at_import_makes_forking_unsafe_and_a_fresh_interpreter_stands_in(
    tmp_path: Path,
) -> None:
    library = tmp_path / "layer" / "python"
    library.mkdir(parents=True)
    (library / "threaded_import.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    code = "import threaded_import\n" + HANDLER

    async def script(bench: Bench) -> None:
        result, error = await bench()
        assert error is None
        ((server,),) = bench.launcher._servers.values()  # type: ignore[attr-defined]
        assert server.ready.result() is False
        assert result["count"] == 1

    run(tmp_path, script, code, launcher=ForkLauncher, layer_dirs=(tmp_path / "layer",))


def test_an_invocation_above_its_memory_is_killed(tmp_path: Path) -> None:
    code = """
import time
def handler(event, context):
    hoard = bytearray(event["mb"] * 1024 * 1024)
    time.sleep(event["seconds"])
    return len(hoard)
"""

    async def script(bench: Bench) -> None:
        error, kind = await bench(mb=200, seconds=20)
        assert kind == "Unhandled"
        assert error["errorMessage"].endswith("Runtime exited with error: signal: killed")
        (stopped,) = [event for event in bench.journal if event.kind == "environment.stopped"]
        assert stopped.data["reason"] == "killed above 128 MB of memory"
        result, kind = await bench(mb=20, seconds=0.3)
        assert (result, kind) == (20 * 1024 * 1024, None)

    run(tmp_path, script, code, timeout_s=30.0)
