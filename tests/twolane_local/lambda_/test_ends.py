"""Each invocation that begins ends in the journal, once, with the reason, whatever ends it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.aws import guard
from twolane_local.aws.invocation import Invocation, ThrottledError
from twolane_local.aws.lambda_.functions import Functions
from twolane_local.aws.lambda_.inprocess import InProcessEnvironment
from twolane_local.aws.lambda_.isolated import IsolatedEnvironment
from twolane_local.aws.lambda_.launchers import ForkLauncher
from twolane_local.aws.lambda_.process import SpawnLauncher
from twolane_local.clock import SystemClock
from twolane_local.faults.injection import Faults
from twolane_local.faults.seams import FaultyInvoker
from twolane_local.journal import Event, Journal
from twolane_local.model import FunctionSpec

if TYPE_CHECKING:
    from pathlib import Path

    from twolane_local.aws.lambda_.environment import Environment, Owner
    from twolane_local.aws.lambda_.process import Launcher

HANDLER = """
import os, signal, sys, threading, time

def handler(event, context):
    match event.get("do"):
        case "sleep": time.sleep(event["for_s"])
        case "raise": raise ValueError("wrong")
        case "exit": os._exit(3)
        case "sys.exit": sys.exit(3)
        case "hog":
            hog = bytearray(300 << 20)
            for at in range(0, len(hog), 4096): hog[at] = 1
            time.sleep(30)
        case "stop": os.kill(os.getpid(), signal.SIGSTOP)
    return os.getpid()
"""
Script = Callable[["Bench"], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def clean(own_environ: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in this process changes it: undo the changes."""
    monkeypatch.setattr(sys, "path", list(sys.path))


class Bench:
    def __init__(self, folder: Path, kind: str, **fields: Any) -> None:
        # A module of its own for each test: the handlers in this process share its modules.
        self.module = f"ends_{os.urandom(4).hex()}"
        (folder / f"{self.module}.py").write_text(fields.pop("code", HANDLER))
        self.journal = Journal(SystemClock())
        self.launcher: Launcher = ForkLauncher() if kind == "fork" else SpawnLauncher()
        self.in_process = kind == "in-process"
        spec = FunctionSpec(
            "fn", "Fn", f"{self.module}.handler", folder, **{"timeout_s": 5.0, **fields}
        )
        self.functions = Functions([spec], self.make, self.journal)

    def make(self, spec: FunctionSpec, owner: Owner) -> Environment:
        environ = guard.function_environment(spec, endpoint_url="http://127.0.0.1:1")
        if self.in_process:
            return InProcessEnvironment(spec, environ, owner=owner, journal=self.journal)
        return IsolatedEnvironment(
            spec, environ, owner=owner, launcher=self.launcher, journal=self.journal
        )

    def invoke(self, **event: Any) -> asyncio.Task[Invocation]:
        return asyncio.create_task(self.functions.invoke("fn", json.dumps(event).encode()))

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.journal if event.kind == kind]

    async def until(self, kind: str, count: int = 1) -> None:
        seen = asyncio.Event()
        unsubscribe = self.journal.subscribe(
            lambda event: seen.set() if len(self.of(kind)) >= count else None
        )
        if len(self.of(kind)) < count:
            await asyncio.wait_for(seen.wait(), 20)
        unsubscribe()

    @property
    def reasons(self) -> list[str]:
        return [event.data.get("reason", "") for event in self.of("invocation.ended")]

    @property
    def process(self) -> int:
        """The one environment's process."""
        (environment,) = self.functions._pools["fn"]._busy
        assert isinstance(environment, IsolatedEnvironment)
        assert environment._process is not None
        return environment._process.pid


def run(folder: Path, kind: str, script: Script, **fields: Any) -> Bench:
    async def main() -> Bench:
        bench = Bench(folder, kind, **fields)
        try:
            await script(bench)
        finally:
            await bench.functions.close()
            await bench.launcher.close()
        return bench

    bench = asyncio.run(main())
    began = [event.request_id for event in bench.of("invocation.started")]
    for kind_of_end in ("invocation.responded", "invocation.ended"):
        assert Counter(e.request_id for e in bench.of(kind_of_end)) == Counter(began)
    assert began
    assert len(set(began)) == len(began)
    return bench


isolated = pytest.mark.parametrize("kind", ["spawn", "fork"])
every = pytest.mark.parametrize("kind", ["spawn", "fork", "in-process"])


@isolated
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_process_that_is_killed_from_outside(
    tmp_path: Path, kind: str, number: signal.Signals
) -> None:
    async def script(bench: Bench) -> None:
        work = bench.invoke(do="sleep", for_s=30)
        await bench.until("invocation.started")
        os.kill(bench.process, number)
        outcome = await asyncio.wait_for(work, 20)
        assert outcome.error == "Unhandled"
        await bench.until("environment.stopped")
        assert not (await bench.invoke()).error  # in a new one

    first = run(tmp_path, kind, script).reasons[0]
    how = {9: "killed", 15: "terminated", 11: "segmentation fault"}[number]
    assert first == f"the environment exited (signal: {how})"


@isolated
def test_a_process_that_is_killed_while_it_is_stopped(tmp_path: Path, kind: str) -> None:
    async def script(bench: Bench) -> None:
        work = bench.invoke(do="stop")
        await bench.until("invocation.started")
        os.kill(bench.process, signal.SIGKILL)
        await asyncio.wait_for(work, 20)

    assert run(tmp_path, kind, script).reasons == ["the environment exited (signal: killed)"]


def test_a_fork_server_that_is_killed_takes_its_environments_along(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        assert isinstance(bench.launcher, ForkLauncher)
        work = bench.invoke(do="sleep", for_s=30)
        await bench.until("invocation.started")
        ((server,),) = bench.launcher._servers.values()
        os.kill(server._popen.pid, signal.SIGKILL)
        assert (await asyncio.wait_for(work, 20)).error == "Unhandled"
        assert not (await asyncio.wait_for(bench.invoke(), 20)).error  # with a new one

    assert "the environment exited (signal: killed)" in run(tmp_path, "fork", script).reasons


def test_an_environment_whose_fork_server_is_killed_at_its_start(tmp_path: Path) -> None:
    """It comes to no process: the invocation that waits for it fails, and the next one works."""

    async def script(bench: Bench) -> None:
        assert isinstance(bench.launcher, ForkLauncher)
        await bench.invoke()
        ((server,),) = bench.launcher._servers.values()
        os.kill(server._popen.pid, signal.SIGSTOP)
        first = bench.invoke(do="sleep", for_s=0.5)
        second = bench.invoke()  # needs an environment of its own
        async with asyncio.timeout(20):
            while not server._waiting:
                await asyncio.sleep(0.001)
        os.kill(server._popen.pid, signal.SIGKILL)
        await asyncio.wait_for(asyncio.gather(first, second), 20)
        assert not (await asyncio.wait_for(bench.invoke(), 20)).error

    run(tmp_path, "fork", script, timeout_s=20.0)


@every
def test_a_timeout(tmp_path: Path, kind: str) -> None:
    async def script(bench: Bench) -> None:
        outcome = await bench.invoke(do="sleep", for_s=1.2)
        assert b"timed out after 0.50 seconds" in outcome.payload

    bench = run(tmp_path, kind, script, timeout_s=0.5)
    assert bench.reasons == ["timed out after 0.5 s"]
    assert [event.data["error"] for event in bench.of("invocation.responded")] == ["Unhandled"]


@isolated
def test_above_its_memory(tmp_path: Path, kind: str) -> None:
    async def script(bench: Bench) -> None:
        assert (await bench.invoke(do="hog")).error == "Unhandled"

    bench = run(tmp_path, kind, script, memory_mb=128, timeout_s=20.0)
    assert bench.reasons == ["the environment was killed above 128 MB of memory"]


@every
def test_a_handler_that_ends_the_process(tmp_path: Path, kind: str) -> None:
    how = "sys.exit" if kind == "in-process" else "exit"

    async def script(bench: Bench) -> None:
        outcome = await asyncio.wait_for(bench.invoke(do=how), 20)
        assert outcome.error == "Unhandled"
        assert b"Runtime exited with error: exit status 3" in outcome.payload
        assert not (await asyncio.wait_for(bench.invoke(), 20)).error

    assert run(tmp_path, kind, script).reasons == ["the environment exited (exit status 3)", ""]


@every
def test_an_error_of_its_own_is_an_answer(tmp_path: Path, kind: str) -> None:
    async def script(bench: Bench) -> None:
        assert (await bench.invoke(do="raise")).error == "Unhandled"
        assert not (await bench.invoke()).error

    assert run(tmp_path, kind, script).reasons == ["", ""]


@every
def test_a_handler_that_does_not_load(tmp_path: Path, kind: str) -> None:
    async def script(bench: Bench) -> None:
        outcome = await asyncio.wait_for(bench.invoke(), 20)
        assert b"not today" in outcome.payload

    bench = run(tmp_path, kind, script, code="raise ValueError('not today')")
    assert bench.reasons == ["the init phase failed"]


@every
def test_what_is_under_way_when_all_is_stopped(tmp_path: Path, kind: str) -> None:
    """Work that waits for an environment has not begun; it is throttled."""
    pending: list[asyncio.Task[Invocation]] = []

    async def script(bench: Bench) -> None:
        pending.append(bench.invoke(do="sleep", for_s=1.0))
        await bench.until("invocation.started")
        pending.append(bench.invoke())
        await asyncio.sleep(0)

    async def main() -> Bench:
        bench = Bench(tmp_path, kind, reserved_concurrency=None)
        bench.functions._pools["fn"]._maximum = 1
        await script(bench)
        await bench.functions.close()
        await bench.launcher.close()
        assert (await asyncio.wait_for(pending[0], 5)).error == "Unhandled"
        with pytest.raises(ThrottledError):
            await pending[1]
        return bench

    bench = asyncio.run(main())
    assert len(bench.of("invocation.started")) == 1
    assert bench.reasons == ["the environment was stopped"]
    assert len(bench.of("invocation.throttled")) == 1


def test_an_environment_that_a_fault_kills_before_its_handler(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        clock = SystemClock()
        faults = Faults(bench.journal, clock)
        faults.inject("environment.killed-at-start", count=1)
        invoker = FaultyInvoker(bench.functions, faults, clock)
        assert (await invoker.invoke("fn", b"{}")).error == "Unhandled"
        assert not (await invoker.invoke("fn", b"{}")).error

    assert run(tmp_path, "spawn", script).reasons == ["the environment was killed", ""]
