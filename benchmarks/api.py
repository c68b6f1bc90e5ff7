"""The API function beside Mangum: cold start, response time with work after it, warm call, enqueue.

Cold starts and response times are taken at the Runtime API, with the real ``awslambdaric`` in a
child process: from the process's start, or from the event, until the response is posted. What is
compared takes turns in each round, so that a busy machine slows all alike; ratios are of medians.

"Bare" is the smallest application: two routes and one model. The demo API has more of its own than
that, with or without Celery and twolane: settings, email addresses, six routes. So it stands beside
"bare demo" too, which is the same application on FastAPI + Mangum alone.

    python benchmarks/api.py [--json] [--rounds N]
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _table
import publish
from _lambda import Environment, deploy

if TYPE_CHECKING:
    from collections.abc import Callable

#: The same application each time: one route that takes a body, one that has work to do after it.
APPLICATION = """
import asyncio
from fastapi import BackgroundTasks, FastAPI
from pydantic import BaseModel

app = FastAPI()

class Notification(BaseModel):
    email: str
    message: str

@app.post("/notify")
async def notify(notification: Notification) -> dict[str, str]:
    return {"message": f"Notification to {notification.email}"}

async def work() -> None:
    await asyncio.sleep(0.2)

@app.post("/work")
async def with_work(notification: Notification, tasks: BackgroundTasks) -> dict[str, str]:
    tasks.add_task(work)
    return {"message": f"Notification to {notification.email}"}
"""
#: What a task costs on top: Celery on SQS, the way of the demonstration application.
TASK = '''
import os
from celery import Celery

celery = Celery("app", broker="sqs://")
celery.conf.update(
    broker_transport_options={
        "region": "us-east-1",
        "predefined_queues": {"tasks": {"url": os.environ["TASK_QUEUE_URL"]}},
        "sqs_base64_encoding": False,
    },
    task_default_queue="tasks",
    task_ignore_result=True,
)

@celery.task(name="app.send")
def send(email: str, message: str) -> None:
    """Sends."""

@app.post("/notify/deferred", status_code=202)
def deferred(notification: Notification) -> dict[str, str]:
    return {"id": send.delay(notification.email, notification.message).id}
'''
#: As the documentation advises.
FIRST = "import twolane\n"
MANGUM = "from mangum import Mangum\nhandler = Mangum(app)\n"
OURS = "from twolane import ApiHandler\nhandler = ApiHandler(app)\n"
MODULES = {
    "bare": APPLICATION + MANGUM,
    "ours": FIRST + APPLICATION + OURS,
    "ours_enqueue": FIRST + APPLICATION + TASK + OURS,
    "stock_enqueue": APPLICATION + TASK + MANGUM,
}
#: The cold starts to take: handler, route.
COLD = {
    "bare": ("bare.handler", "/notify"),
    "ours": ("ours.handler", "/notify"),
    "ours_enqueue": ("ours_enqueue.handler", "/notify/deferred"),
    "stock_enqueue": ("stock_enqueue.handler", "/notify/deferred"),
    "bare_demo": ("_bare_demo.handler", "/notify/deferred"),
    "demo": ("app.api.handler", "/notify/deferred"),
}
HERE = Path(__file__).parent
WARM_CALLS, INVOCATIONS = 300, 5


def event(path: str) -> dict[str, Any]:
    """A POST as an HTTP API sends it."""
    domain = "id.execute-api.us-east-1.amazonaws.com"
    http = {"method": "POST", "path": path, "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7"}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "accept": "*/*",
            "content-type": "application/json",
            "host": domain,
            "x-forwarded-for": "203.0.113.7",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "requestContext": {"domainName": domain, "http": http, "stage": "$default"},
        "body": '{"email": "user@example.com", "message": "hello"}',
        "isBase64Encoded": False,
    }


def check(response: dict[str, Any]) -> None:
    if response.get("statusCode") not in {200, 202}:
        raise RuntimeError(f"not the answer that is timed: {response}")


async def cold_start(name: str, folder: Path, environ: dict[str, str]) -> tuple[float, float]:
    """Milliseconds from the start of the process until its first response is posted: by the clock,
    and of CPU, which a busy machine stretches less.
    """
    handler, path = COLD[name]
    before = _cpu_of_children()
    async with Environment(handler, folder, environ) as environment:
        response, _, posted = await environment.invoke(event(path))
        check(response)
    return (posted - environment.started) * 1e3, (_cpu_of_children() - before) * 1e3


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


async def responses(
    environment: Environment, path: str, times: list[float], count: int = INVOCATIONS
) -> None:
    for _ in range(count):
        # After work of 200 ms everything has cooled down; let it be so without work too.
        await asyncio.sleep(0.2)
        response, took, _ = await environment.invoke(event(path))
        check(response)
        times.append(took * 1e3)


async def measure_cold(folder: Path, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """By the clock, and of CPU."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COLD}
    with publish.server(0) as url:
        environ = {"AWS_ENDPOINT_URL": url, "TASK_QUEUE_URL": f"{url}/1/tasks"}
        for name in COLD:
            await cold_start(name, folder, environ)  # writes the bytecode, fills the page cache
        for _ in range(rounds):
            for name, values in times.items():
                values.append(await cold_start(name, folder, environ))
    wall, cpu = (
        {name: statistics.median(each[which] for each in values) for name, values in times.items()}
        for which in (0, 1)
    )
    return wall, cpu


async def measure_responses(folder: Path, rounds: int) -> dict[tuple[str, str], float]:
    times: dict[tuple[str, str], list[float]] = {
        (name, path): [] for name in ("bare", "ours") for path in ("/notify", "/work")
    }
    async with (
        Environment("bare.handler", folder, {}) as bare,
        Environment("ours.handler", folder, {}) as ours,
    ):
        peers = {"bare": bare, "ours": ours}
        for name, path in times:
            await responses(peers[name], path, [])
        for _ in range(rounds):
            for (name, path), values in times.items():
                await responses(peers[name], path, values)
    return {key: statistics.median(values) for key, values in times.items()}


def measure_warm(rounds: int) -> dict[tuple[str, str], float]:
    """Microseconds a call, in this process, by handler and lifespan mode."""
    from mangum import Mangum

    from twolane import ApiHandler

    namespace: dict[str, Any] = {}
    exec(compile(APPLICATION, "application", "exec"), namespace)
    app = namespace["app"]

    class Context:
        aws_request_id = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"
        until_ms = int((time.time() + 3600) * 1000)

        def get_remaining_time_in_millis(self) -> int:
            return max(0, self.until_ms - int(time.time() * 1000))

    logging.getLogger("mangum").setLevel(logging.WARNING)
    sent, context = event("/notify"), Context()
    handlers: dict[tuple[str, str], Callable[..., dict[str, Any]]] = {}
    for mode in ("off", "auto"):
        handlers["mangum", mode] = Mangum(app, lifespan=mode)
        handlers["ours", mode] = ApiHandler(app, lifespan=mode, environ={})
    times: dict[tuple[str, str], list[float]] = {key: [] for key in handlers}
    for turn in range(2 * rounds + 1):
        for key, handler in handlers.items():
            started = time.perf_counter()
            for _ in range(WARM_CALLS):
                handler(sent, context)
            if turn:
                times[key].append((time.perf_counter() - started) / WARM_CALLS * 1e6)
    for mode in ("off", "auto"):
        handlers["ours", mode].close()  # type: ignore[attr-defined]
    return {key: statistics.median(values) for key, values in times.items()}


def rows(rounds: int) -> list[_table.Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for module, source in MODULES.items():
            (folder / f"{module}.py").write_text(source)
        shutil.copy(HERE / "_bare_demo.py", folder)
        deploy(folder)
        cold, cpu = asyncio.run(measure_cold(folder, rounds))
        posted = asyncio.run(measure_responses(folder, rounds))
    warm = measure_warm(rounds)
    row = _table.row
    return [
        row("cold start, bare FastAPI + Mangum", cold["bare"], "ms"),
        row("cold start, bare demo: its own part on FastAPI + Mangum", cold["bare_demo"], "ms"),
        row("cold start, ours, nothing enqueued", cold["ours"], "ms"),
        row("cold start with first .delay(), ours", cold["ours_enqueue"], "ms"),
        row("cold start with first .delay(), Mangum + kombu", cold["stock_enqueue"], "ms"),
        row("cold start with first .delay(), demo API", cold["demo"], "ms"),
        row("cold, ours / bare", cold["ours"] / cold["bare"], "ratio", "<= 1.05"),
        row("cold, ours + .delay() / bare", cold["ours_enqueue"] / cold["bare"], "ratio", "<= 1.3"),
        row("cold, stock + .delay() / bare", cold["stock_enqueue"] / cold["bare"], "ratio"),
        row("cold, demo API + .delay() / bare", cold["demo"] / cold["bare"], "ratio", "<= 1.3"),
        row(
            "cold, demo API + .delay() / bare demo",
            cold["demo"] / cold["bare_demo"],
            "ratio",
            "<= 1.3",
        ),
        row("cold CPU, ours / bare", cpu["ours"] / cpu["bare"], "ratio"),
        row("cold CPU, ours + .delay() / bare", cpu["ours_enqueue"] / cpu["bare"], "ratio"),
        row("cold CPU, stock + .delay() / bare", cpu["stock_enqueue"] / cpu["bare"], "ratio"),
        row("cold CPU, demo API + .delay() / bare", cpu["demo"] / cpu["bare"], "ratio"),
        row("cold CPU, demo API + .delay() / bare demo", cpu["demo"] / cpu["bare_demo"], "ratio"),
        row("response, ours", posted["ours", "/notify"], "ms"),
        row("response with 200 ms of work, ours", posted["ours", "/work"], "ms"),
        row("response with 200 ms of work, Mangum", posted["bare", "/work"], "ms"),
        row(
            "response, with work / without, ours",
            posted["ours", "/work"] / posted["ours", "/notify"],
            "ratio",
            "<= 1.15",
        ),
        row(
            "response, with work / without, Mangum",
            posted["bare", "/work"] / posted["bare", "/notify"],
            "ratio",
        ),
        row("warm call, ours", warm["ours", "auto"], "us"),
        row(
            "warm call, ours / Mangum, no lifespan",
            warm["ours", "off"] / warm["mangum", "off"],
            "ratio",
            "<= 1.0",
        ),
        row(
            "warm call, ours / Mangum, lifespan",
            warm["ours", "auto"] / warm["mangum", "auto"],
            "ratio",
            "<= 1.0",
        ),
        *(row for row in publish.rows(rounds) if row.target),
    ]


def main() -> None:
    flags = _table.parser(__doc__)
    flags.add_argument("--rounds", type=int, default=9)
    chosen = flags.parse_args()
    os.environ.pop("AWS_LAMBDA_RUNTIME_API", None)
    _table.report("API", rows(chosen.rounds), as_json=chosen.json)


if __name__ == "__main__":
    main()
