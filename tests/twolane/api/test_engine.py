"""What surrounds one request: its context, its budget, and who finishes it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twolane.api import awake
from twolane.environment.invocation import deadline
from twolane.environment.logs import correlation

TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"


def _noting(seen: list[Any], read: Any) -> Any:
    """An application that notes what ``read`` gives, before its response and after it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(read())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
        seen.append(read())

    return app


def test_a_request_knows_its_ids_until_its_work_is_done(api, http_event, context) -> None:
    seen: list[Any] = []
    app = _noting(seen, correlation.get)
    api(app, lifespan="off", environ={"_X_AMZN_TRACE_ID": TRACE})(http_event(), context)
    assert seen == [{"requestId": context.aws_request_id, "traceId": TRACE}] * 2
    assert correlation.get() is None, "it leaked into the handler's own context"


def test_an_enqueue_knows_when_it_has_to_give_up(api, http_event, context) -> None:
    seen: list[Any] = []
    context.remaining_ms = 5_000
    before = time.monotonic()
    api(_noting(seen, deadline.get), lifespan="off")(http_event(), context)
    assert before + 5 <= seen[0] <= time.monotonic() + 5
    assert deadline.get() is None


@pytest.mark.parametrize("stand_in", [SimpleNamespace(), {}, None])
def test_a_stand_in_for_a_context_has_no_timeout(api, http_event, stand_in) -> None:
    """As in a test of somebody's handler."""
    seen: list[Any] = []
    handler = api(_noting(seen, deadline.get), lifespan="off")
    assert handler(http_event(), stand_in)["body"] == "ok"
    assert seen == [None, None]


def test_when_the_extension_is_gone_the_work_is_done_before_the_return(
    held, http_event, context
) -> None:
    seen: list[Any] = []
    handler = held(_noting(seen, threading.get_ident), lifespan="off")
    handler(http_event(), context)
    assert len(seen) == 1, "left to the extension"
    handler.finish(context)
    assert len(seen) == 2

    handler._awake.keep(None)
    handler(http_event(), context)
    assert len(seen) == 4
    assert seen[3] == threading.get_ident()


def test_a_request_waits_for_the_work_of_the_one_before(held, http_event, context) -> None:
    """No runtime asks for an event before the extension has: but if one did, nothing would mix."""
    order: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        order.append(f"start {scope['path']}")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
        if scope["path"] == "/1":
            started.set()
            await asyncio.sleep(0.05)
        order.append(f"end {scope['path']}")

    started = threading.Event()
    handler = held(app, lifespan="off")
    handler(http_event(path="/1"), context)
    finishing = threading.Thread(target=handler.finish, args=(context,))
    finishing.start()
    assert started.wait(30)
    handler(http_event(path="/2"), context)
    finishing.join(30)
    handler.finish(context)
    assert order == ["start /1", "end /1", "start /2", "end /2"]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        # Several processes in one environment: nothing is frozen, extensions get no INVOKE.
        {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1", "AWS_LAMBDA_MAX_CONCURRENCY": "4"},
    ],
)
def test_where_nothing_is_frozen_there_is_nothing_to_keep_awake(environ) -> None:
    assert awake.of(environ) is None


def test_without_a_runtime_to_listen_to_there_is_no_extension(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "awslambdaric.lambda_runtime_client", raising=False)
    assert awake.of({"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1"}) is None


def test_the_handler_costs_next_to_nothing_over_mangum() -> None:
    """In modules, which is what a cold start pays for; the milliseconds are a benchmark's."""
    source = (
        "import sys, mangum, http.client, dataclasses, inspect, json\n"
        "before = set(sys.modules)\n"
        "from twolane import ApiHandler\n"
        "ApiHandler(lambda scope, receive, send: None, lifespan='off').close()\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[3] / "handlers"),
    }
    done = subprocess.run(
        [sys.executable, "-c", source], env=environ, check=True, capture_output=True, text=True
    )
    # What is in the interpreter itself takes no time to import.
    free = ("twolane", *sys.builtin_module_names)
    others = [name for name in done.stdout.split() if not name.startswith(free)]
    assert others == [], "a module that FastAPI does not need anyway"
    assert "twolane.publish" not in done.stdout, "nothing of Celery, for who does not use it"
    assert "twolane.api.extension" not in done.stdout
