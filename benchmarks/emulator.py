"""The emulator beside its limits: requests, cold starts, concurrency, queues, memory.

One FastAPI application behind Mangum, asked by a load generator in a process of its own; behind
``ApiHandler`` as well, which tells Lambda by two more calls when it is done. uvicorn alone with the
same application is the limit. Peers' figures are of another day on a 4-core machine: each counts in
relation to what uvicorn alone did there and does here. Medians of several rounds, taken in turns.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _peers import ministack, rie_alone, rie_binary, serverless_offline, uvicorn_alone
from _table import Row, absent, parser, report, row

from twolane_local.aws import guard
from twolane_local.aws.event_source_mapping import EventSourceMapping
from twolane_local.aws.lambda_.functions import Functions
from twolane_local.aws.lambda_.inprocess import InProcessEnvironment
from twolane_local.aws.lambda_.isolated import IsolatedEnvironment
from twolane_local.aws.lambda_.launchers import ForkLauncher
from twolane_local.aws.sqs.service import NewMessage, QueueService
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec, QueueMappingSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
ROUNDS = 3
#: Requests a second at 1 and at 16 connections, of that day.
UVICORN = {1: 5325.0, 16: 9282.0}
OF_THAT_DAY = (
    ("serverless-offline", 1, 1252.0, ">= 1.2"),
    ("serverless-offline", 16, 4118.0, ">= 1.2"),
    ("RIE", 1, 740.0, ">= 1.5"),
    ("sam local", 16, 59.0, ">= 50"),
)
#: Measured in this run, where installed.
BESIDE = (
    ("RIE", 1, ">= 1.5"),
    ("serverless-offline", 1, ">= 1.2"),
    ("serverless-offline", 16, ">= 1.2"),
    ("MiniStack", 1, None),
    ("MiniStack", 16, None),
)
#: The program that has to be there, and what serves with it.
PEERS = {"serverless-offline": ("serverless", serverless_offline),
         "MiniStack": ("ministack", ministack)}  # fmt: skip

KINDS = {
    "isolated": (),
    "isolated, ApiHandler": ("--parameter", "Handler=adapted.handler"),
    "in-process": ("--in-process",),
}
TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {CodeUri: src, Runtime: python3.13, Timeout: 30, MemorySize: 512}}
Parameters: {Handler: {Type: String, Default: bench.mangum}}
Resources:
  Api:
    Type: AWS::Serverless::Function
    Properties: {Handler: !Ref Handler, Events: {All: {Type: HttpApi}}}
"""
CODE = """
import asyncio
from fastapi import FastAPI
from mangum import Mangum

app = FastAPI()

@app.get("/")
async def root():
    return {"hello": "world"}

@app.get("/sleep")
async def sleep():
    await asyncio.sleep(0.2)
    return {"slept": True}

mangum = Mangum(app, lifespan="off")
"""
#: In a module of its own: its import registers an extension, which Mangum alone has not.
ADAPTED = """
from bench import app
from twolane import ApiHandler

handler = ApiHandler(app)
"""


@contextmanager
def project() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "src").mkdir()
        (folder / "src" / "bench.py").write_text(CODE)
        (folder / "src" / "adapted.py").write_text(ADAPTED)
        (folder / "template.yaml").write_text(TEMPLATE)
        yield folder


@contextmanager
def twolane_up(folder: Path, *flags: str) -> Iterator[tuple[str, int, float]]:
    """Its API's address, process id, and the seconds until it was ready."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "twolane_local.cli", "up", "--json", "--quiet", "--no-reload",
         "--port", "0", "--aws-port", "0", *flags],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        api = json.loads(process.stdout.readline())["api"]
        urllib.request.urlopen(api, timeout=30).close()
        yield api, process.pid, time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def load(url: str, connections: int, requests: int, *body: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, str(HERE / "_load.py"), url, str(connections), str(requests), *body],
        stdout=subprocess.PIPE, text=True, check=True, timeout=60,
    )  # fmt: skip
    result: dict[str, float] = json.loads(done.stdout)
    return result


Measured = dict[tuple[str, int], list[dict[str, float]]]


def measure(folder: Path) -> tuple[list[float], Measured]:
    """Seconds of each start, and each server's loads, in turns."""
    measured: Measured = {}
    starts: list[float] = []
    binary = rie_binary()
    event = json.dumps(HTTP_EVENT)
    with uvicorn_alone(folder) as limit:
        for _ in range(ROUNDS):
            if binary is not None:
                with rie_alone(binary, folder) as url:
                    load(url, 1, 100, event)
                    measured.setdefault(("RIE", 1), []).append(load(url, 1, 1000, event))
            for peer, requests in (("serverless-offline", 2000), ("MiniStack", 200)):
                if not shutil.which(PEERS[peer][0]):
                    continue
                for connections in (1, 16):
                    result = loaded_peer(folder, peer, connections, requests)
                    if result is not None:
                        measured.setdefault((peer, connections), []).append(result)
            for name, flags in KINDS.items():
                with twolane_up(folder, *flags) as (api, _, start):
                    starts.append(start)
                    for connections in (1, 16):
                        load(api, connections, 600)  # as many environments as it takes
                        result = load(api, connections, 2000)
                        measured.setdefault((name, connections), []).append(result)
            for connections in (1, 16):
                load(limit, connections, 200)
                result = load(limit, connections, 4000)
                measured.setdefault(("uvicorn alone", connections), []).append(result)
    return starts, measured


def loaded_peer(
    folder: Path, name: str, connections: int, requests: int
) -> dict[str, float] | None:
    """What a peer does; ``None`` where it left requests without an answer."""
    _, serve = PEERS[name]
    try:
        with serve(folder) as url:
            for _ in range(2):
                load(url, connections, requests * 3 // 10)
            return load(url, connections, requests)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None


def requests(folder: Path) -> list[Row]:
    """Requests a second and their times."""
    starts, measured = measure(folder)

    def middle(name: str, connections: int, what: str) -> float:
        return statistics.median(each[what] for each in measured[name, connections])

    rows = [row("twolane up to the first 200", statistics.median(starts), "s", "<= 1.5")]
    for name in ("uvicorn alone", *KINDS):
        for connections in (1, 16):
            label = f"{name}, {connections} connection{'s' * (connections > 1)}"
            rows.append(row(f"{label}", middle(name, connections, "rps"), "req/s"))
            rows.append(row(f"{label}, p50", middle(name, connections, "p50"), "ms"))
            rows.append(row(f"{label}, p99", middle(name, connections, "p99"), "ms"))
    for peer, connections, target in BESIDE:
        if (peer, connections) in measured:
            there = middle(peer, connections, "rps")
            rows.append(row(f"{peer}, {connections}", there, "req/s"))
            here = middle("isolated", connections, "rps") / there
            rows.append(row(f"isolated / {peer} at {connections}, this run", here, "x", target))
    for peer, connections, figure, target in OF_THAT_DAY:
        here = middle("isolated", connections, "rps") / middle("uvicorn alone", connections, "rps")
        name = f"isolated / {peer} at {connections}, each to its uvicorn"
        rows.append(row(name, here / (figure / UVICORN[connections]), "x", target))
    return rows


def concurrency(folder: Path) -> list[Row]:
    """Sixteen sleepers at once, and memory."""
    with twolane_up(folder) as (api, pid, _):
        load(f"{api}/sleep", 16, 64)
        slept = [load(f"{api}/sleep", 16, 16)["took"] for _ in range(5)]
        own = rss_mb(pid)
        environments = [rss_mb(each) for each in below(pid) if "forkserver" in command(each)]
    return [
        row("16 requests of 200 ms at once, warm", statistics.median(slept), "s", "<= 0.3"),
        row("memory of the emulator itself", own, "MB"),
        row("memory of an environment (shared pages counted)", max(environments, default=0), "MB"),
    ]


def below(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *below(child)]
    return found


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def rss_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


def inside(folder: Path) -> list[Row]:
    """What is measured inside one process, without HTTP in front."""
    (folder / "src" / "quiet.py").write_text(
        "def handler(event, context):\n    return {'batchItemFailures': []}\n"
    )
    return asyncio.run(Inside(folder / "src").rows())


class Inside:
    """Pools, environments and a mapping, put together as the emulator does."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.clock = SystemClock()
        self.launcher = ForkLauncher()

    def functions(self, handler: str, *, in_process: bool) -> Functions:
        spec = FunctionSpec("fn", "Fn", handler, self.source, timeout_s=30, memory_mb=512)
        journal = Journal(self.clock, size=1000)
        environ = guard.function_environment(spec, endpoint_url="http://127.0.0.1:1")

        def make(each: FunctionSpec, owner: Any) -> Any:
            if in_process:
                return InProcessEnvironment(each, {}, owner=owner, journal=journal)
            return IsolatedEnvironment(
                each, environ, owner=owner, launcher=self.launcher, journal=journal
            )

        return Functions([spec], make, journal)

    async def cold(self) -> float:
        """Seconds until fifteen further environments stand beside the first."""
        functions = self.functions("adapted.handler", in_process=False)
        await functions.warm()
        began = time.perf_counter()
        await functions.provision("fn", 16)
        event = json.dumps(HTTP_EVENT).encode()
        answers = await asyncio.gather(*(functions.invoke("fn", event) for _ in range(16)))
        took = time.perf_counter() - began
        assert all(answer.error is None for answer in answers)
        await functions.close()
        return took

    async def overhead(self) -> float:
        """Milliseconds of one in-process invocation of a handler that does nothing."""
        functions = self.functions("quiet.handler", in_process=True)
        await functions.warm()
        times = []
        for _ in range(500):
            began = time.perf_counter()
            await functions.invoke("fn", b"{}")
            times.append(time.perf_counter() - began)
        await functions.close()
        return statistics.median(times) * 1000

    async def drained(self, depth: int, *, in_process: bool) -> float:
        """Messages a second through a mapping with batches of ten, ``depth`` queued before."""
        functions = self.functions("quiet.handler", in_process=in_process)
        await functions.warm()
        journal = Journal(self.clock, size=1000)
        queues = QueueService(self.clock, journal)
        queues.create("q", {})
        for number in range(depth):
            queues.send("q", NewMessage(str(number)))
        spec = QueueMappingSpec(
            "fn",
            "arn:aws:sqs:us-east-1:123456789012:q",
            batch_size=10,
            report_batch_item_failures=True,
        )
        gone = Counter[str]()
        journal.subscribe(lambda event: gone.update([event.kind]))
        began = time.perf_counter()
        mapping = EventSourceMapping(spec, queues, functions, self.clock, journal)
        running = asyncio.create_task(mapping.run())
        await until(lambda: gone["message.deleted"] >= 900)
        rate = gone["message.deleted"] / (time.perf_counter() - began)
        running.cancel()
        await asyncio.wait([running])
        await functions.close()
        return rate

    async def rows(self) -> list[Row]:
        cold = statistics.median([await self.cold() for _ in range(ROUNDS)])
        overhead = await self.overhead()
        rates: dict[tuple[bool, int], list[float]] = {}
        for _ in range(ROUNDS):
            for in_process in (True, False):
                for depth in (1_000, 100_000):
                    rate = await self.drained(depth, in_process=in_process)
                    rates.setdefault((in_process, depth), []).append(rate)
        await self.launcher.close()
        middle = {key: statistics.median(values) for key, values in rates.items()}
        flat = middle[False, 1_000] / middle[False, 100_000]
        rows = [
            row("16 cold environments serving", cold, "s", "<= 0.6"),
            row("in-process, over calling the handler", overhead, "ms", "<= 0.5"),
        ]
        for (in_process, depth), rate in middle.items():
            kind, target = ("in-process", 2000) if in_process else ("isolated", 1000)
            rows.append(row(f"mapping, {kind}, {depth:,} queued", rate, "msg/s", f">= {target}"))
        rows.append(row("a message's cost at 100,000 / at 1,000, isolated", flat, "x", "<= 1.5"))
        return rows


async def until(true: Callable[[], bool]) -> None:
    """Look every two milliseconds."""
    while not true():  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0.002)


HTTP_EVENT = {
    "version": "2.0", "routeKey": "$default", "rawPath": "/", "rawQueryString": "", "headers": {},
    "requestContext": {"http": {"method": "GET", "path": "/", "protocol": "HTTP/1.1",
                                "sourceIp": "127.0.0.1", "userAgent": ""}, "stage": "$default",
                       "requestId": "r", "time": "", "timeEpoch": 0, "accountId": "1",
                       "apiId": "a", "domainName": "localhost", "domainPrefix": "l"},
    "isBase64Encoded": False,
}  # fmt: skip


def peers() -> list[Row]:
    """Peers are said to be absent; their figures of another day are what the ratios use."""
    rows = []
    if rie_binary() is None:
        rows.append(absent("the RIE, this run", "req/s", "aws-sam-cli is not installed"))
    for name, (program, _) in PEERS.items():
        if shutil.which(program) is None:
            rows.append(absent(f"{name}, this run", "req/s", "not installed"))
    reason = "needs Docker" if shutil.which("sam") else "not installed"
    rows.append(absent("sam local, this run", "req/s", reason))
    return rows


def main() -> None:
    options = parser(__doc__).parse_args()
    with project() as folder:
        rows = [*requests(folder), *concurrency(folder), *inside(folder), *peers()]
    report("Emulator", rows, as_json=options.json)


if __name__ == "__main__":
    main()
