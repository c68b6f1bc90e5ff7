"""Environments that are restored from one snapshot, as SnapStart does it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.aws import guard
from twolane_local.aws.lambda_.functions import Functions
from twolane_local.aws.lambda_.isolated import IsolatedEnvironment
from twolane_local.aws.lambda_.launchers import ForkLauncher, snapstart_available
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twolane_local.aws.lambda_.environment import Environment, Owner

pytestmark = pytest.mark.skipif(
    not snapstart_available(), reason="snapshots are played on Linux only"
)

#: Whatever a module may have at its top level that a snapshot takes along.
CODE = """
import asyncio, os, random, threading, time, uuid
from snapshot_restore_py import register_after_restore, register_before_snapshot

IDENTITY, LOG, LOOP = uuid.uuid4().hex, [], asyncio.new_event_loop()
register_before_snapshot(LOG.append, "first before")
register_before_snapshot(LOG.append, "second before")
register_after_restore(LOG.append, "first after")
register_after_restore(LOG.append, "second after")

async def in_a_thread():
    return await asyncio.to_thread(threading.get_native_id)

async def woken():
    event, loop = asyncio.Event(), asyncio.get_running_loop()
    threading.Timer(0.01, loop.call_soon_threadsafe, [event.set]).start()
    await asyncio.wait_for(event.wait(), 5)

LOOP.run_until_complete(in_a_thread())
LOOP.run_until_complete(woken())
print("init")

def handler(event, context):
    if event.get("exit"):
        os._exit(3)
    time.sleep(event.get("sleep", 0))
    for _ in range(event.get("wake", 0)):
        LOOP.run_until_complete(woken())
    return {
        "identity": IDENTITY, "log": LOG, "pid": os.getpid(), "random": random.random(),
        "thread": LOOP.run_until_complete(in_a_thread()), "environ": dict(os.environ),
        "stream": context.log_stream_name,
    }
"""


class Bench:
    """A function with SnapStart, and what the journal saw of it."""

    def __init__(self, folder: Path, code: str, **environ: str) -> None:
        self.file = folder / "module.py"
        self.file.write_text(code)
        self.journal = Journal(SystemClock())
        self.launcher = ForkLauncher()
        spec = FunctionSpec(
            "fn", "Fn", "module.handler", folder,
            timeout_s=5.0, environment=environ, qualifiers=("1", "live"), snap_start=True,
        )  # fmt: skip
        self.functions = Functions([spec], self._make, self.journal)

    def _make(self, spec: FunctionSpec, owner: Owner) -> Environment:
        environ = guard.function_environment(spec, endpoint_url="http://127.0.0.1:1", snapshot={})
        return IsolatedEnvironment(
            spec, environ, owner=owner, launcher=self.launcher, journal=self.journal
        )

    async def __call__(self, **event: Any) -> tuple[Any, str | None]:
        outcome = await self.functions.invoke("fn", json.dumps(event).encode())
        return json.loads(outcome.payload), outcome.error

    async def two(self, **event: Any) -> list[Any]:
        """The answers of two environments that are busy at once."""
        both = await asyncio.gather(*(self(sleep=0.4, **event) for _ in range(2)))
        assert [error for _, error in both] == [None, None]
        return [payload for payload, _ in both]

    def lines(self, text: str) -> list[str]:
        written = [str(event.data.get("line", "")) for event in self.journal]
        return [line for line in written if text in line]


def run(
    folder: Path, script: Callable[[Bench], Awaitable[None]], code: str = CODE, **environ: str
) -> None:
    async def main() -> None:
        bench = Bench(folder, code, **environ)
        try:
            await asyncio.wait_for(script(bench), 60)
        finally:
            await bench.functions.close()
            await bench.launcher.close()

    asyncio.run(main())


def test_two_environments_are_copies_of_one_init(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        one, other = await bench.two(wake=5)
        assert one["identity"] == other["identity"]
        assert one["pid"] != other["pid"]
        assert one["log"] == ["second before", "first before", "first after", "second after"]
        assert other["log"] == one["log"]
        assert bench.lines("init") == ["init"]
        assert len(bench.lines("INIT_REPORT Init Duration: ")) == 1
        assert bench.lines("open connections") == bench.lines("holds threads") == []
        restores = [e.data for e in bench.journal if e.kind == "environment.started"]
        assert len(restores) == 2
        assert all(data.keys() == {"restoreMs"} for data in restores)
        # Each continues as any other environment.
        again, _ = await bench()
        assert again["pid"] in {one["pid"], other["pid"]}

    run(tmp_path, script)


def test_the_variables_are_those_of_a_snapshot(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        payload, _ = await bench()
        environ = payload["environ"]
        assert environ["AWS_LAMBDA_INITIALIZATION_TYPE"] == "snap-start"
        assert environ["AWS_LAMBDA_FUNCTION_VERSION"] == "1"
        missing = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
                   "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"}  # fmt: skip
        assert not missing & environ.keys()
        assert payload["stream"] is None

    run(tmp_path, script)


def test_one_random_state_in_two_environments_is_named(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        one, other = await bench.two()
        assert one["random"] == other["random"]
        (line,) = bench.lines("`random` is in the same state")
        assert line.startswith("! fn: ")

    run(tmp_path, script)


def test_a_seed_after_the_restore_is_as_it_should_be(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        one, other = await bench.two()
        assert one["random"] != other["random"]
        assert bench.lines("`random`") == []

    run(tmp_path, script, CODE + "\nregister_after_restore(random.seed)\n")


def test_a_connection_in_the_snapshot_is_named(tmp_path: Path) -> None:
    opened = f"""{CODE}
import socket
CONNECTION = socket.create_connection(("127.0.0.1", int(os.environ["PORT"])))
"""

    async def script(bench: Bench) -> None:
        await bench.two()
        (line,) = bench.lines("open connections")
        assert line.startswith(f"! fn: the snapshot holds open connections, to 127.0.0.1:{port}:")

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        run(tmp_path, script, opened, PORT=str(port))


def test_a_connection_that_a_hook_closes_is_not(tmp_path: Path) -> None:
    closed = f"""{CODE}
import socket
CONNECTION = socket.create_connection(("127.0.0.1", int(os.environ["PORT"])))
register_before_snapshot(CONNECTION.close)
"""

    async def script(bench: Bench) -> None:
        await bench.two()
        assert bench.lines("open connections") == []

    with socket.create_server(("127.0.0.1", 0)) as server:
        run(tmp_path, script, closed, PORT=str(server.getsockname()[1]))


def test_a_thread_that_is_lost_is_named(tmp_path: Path) -> None:
    code = CODE + "\nthreading.Thread(target=threading.Event().wait, name='mine', daemon=True)"

    async def script(bench: Bench) -> None:
        _, error = await bench()
        assert error is None
        (line,) = bench.lines("holds threads")
        assert line.startswith("! fn: on AWS the snapshot holds threads (mine)")

    run(tmp_path, script, code + ".start()\n")


def test_an_environment_that_ends_is_replaced_from_the_same_snapshot(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        before, _ = await bench()
        payload, error = await bench(exit=True)
        assert error == "Unhandled"
        assert "exit status 3" in payload["errorMessage"]
        after, _ = await bench()
        assert after["pid"] != before["pid"]
        assert after["identity"] == before["identity"]

    run(tmp_path, script)


def test_changed_code_gets_a_snapshot_of_its_own(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        before, _ = await bench()
        bench.file.write_text(CODE.replace('"identity": IDENTITY', '"identity": "changed"'))
        bench.launcher.forget()
        spec = bench.functions.specs["fn"]
        bench.functions.apply([spec], renew=lambda _: True)
        after, _ = await bench()
        assert (before["identity"] == "changed", after["identity"]) == (False, "changed")

    run(tmp_path, script)


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("import nowhere", "Runtime.ImportModuleError", "No module named 'nowhere'"),
        ("def other(): ...", "Runtime.HandlerNotFound", "Handler 'handler' missing"),
        ("import os; os._exit(4)", "Runtime.ExitError", "exit status 4"),
        (CODE + "\nregister_before_snapshot(lambda: 1 / 0)", "ZeroDivisionError", "division"),
        (CODE + "\nregister_after_restore(lambda: 1 / 0)", "ZeroDivisionError", "division"),
    ],
)
def test_what_fails_is_reported(tmp_path: Path, code: str, kind: str, message: str) -> None:
    async def script(bench: Bench) -> None:
        both = await asyncio.gather(bench(), bench())
        for payload, error in both:
            assert error == "Unhandled"
            assert payload["errorType"] == kind
            assert message in payload["errorMessage"]

    run(tmp_path, script, code)


@pytest.mark.slow
def test_hooks_after_the_restore_have_ten_seconds(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        payload, error = await bench()
        assert error == "Unhandled"
        assert payload["errorType"] == "Lambda.SnapStartTimeoutException"

    run(tmp_path, script, CODE + "\nregister_after_restore(time.sleep, 30)\n")


def test_an_end_in_the_middle_of_init_waits_for_nothing(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        waiting = asyncio.ensure_future(bench())
        async with asyncio.timeout(20):
            while not bench.lines("here"):
                await asyncio.sleep(0.005)
        async with asyncio.timeout(5):
            await bench.functions.close()
        waiting.cancel()

    run(tmp_path, script, "import time\nprint('here', flush=True)\ntime.sleep(60)\n")


def test_a_snapshot_that_is_killed_is_taken_anew(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        before, _ = await bench()
        os.kill(_parent(before["pid"]), signal.SIGKILL)
        async with asyncio.timeout(20):
            while "environment.stopped" not in {event.kind for event in bench.journal}:
                await asyncio.sleep(0.005)
        after, error = await bench()
        assert error is None
        assert after["identity"] != before["identity"]

    run(tmp_path, script)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
