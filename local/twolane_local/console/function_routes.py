"""``/api/functions``: environments as they are now, figures of late, and one invocation by hand."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from twolane_local.console import redact
from twolane_local.console.asking import body_of
from twolane_local.console.problems import Json, ProblemError
from twolane_local.inspect.tally import percentile
from twolane_local.invoke import ThrottledError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.responses import Response

    from twolane_local.console.parts import Parts
    from twolane_local.journal import Event

LOOK = 50_000


class FunctionRoutes:
    """What the pools tell of now, and the journal of what was."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.routes = [
            Route("/functions", self.functions),
            Route("/functions/{name}/invoke", self.invoke, methods=["POST"]),
        ]

    async def functions(self, _: Request) -> Response:
        """Every function of the stack."""
        states, specs = self._parts.functions.states(), self._parts.functions.specs
        events = tuple(islice(reversed(tuple(self._parts.journal)), LOOK))
        figures = await asyncio.to_thread(figures_of, events)
        shown = []
        for name, state in states.items():
            spec = specs[name]
            shown.append(
                {
                    "name": name, "logicalId": spec.logical_id, "handler": spec.handler,
                    "runtime": spec.runtime, "memoryMb": spec.memory_mb,
                    "timeoutSeconds": spec.timeout_s,
                    "concurrency": {
                        "limit": state.limit, "reserved": state.reserved, "busy": state.busy,
                        "idle": state.idle, "starting": state.starting, "waiting": state.waiting,
                    },
                    **(figures.get(name) or empty()),
                }
            )  # fmt: skip
        return Json({"functions": shown})

    async def invoke(self, request: Request) -> Response:
        """Invoke one and wait for the outcome."""
        name, body = request.path_params["name"], await body_of(request)
        if name not in self._parts.functions.specs:
            names = ", ".join(self._parts.functions.specs)
            raise ProblemError(404, f"there is no function named {name!r}; there are: {names}")
        try:
            done = await self._parts.functions.invoke(
                name, json.dumps(body.get("event", {})).encode()
            )
        except ThrottledError as error:
            raise ProblemError(429, f"{name} has no free concurrency") from error
        return Json(
            {
                "requestId": done.request_id,
                "payload": redact.text(done.payload.decode("utf-8", "replace")),
                "error": done.error,
                "cold": done.cold,
                "durationMs": round(done.duration_ms, 2),
                "log": done.log_tail.decode("utf-8", "replace"),
            }
        )


def empty() -> dict[str, Any]:
    """The figures of a function that was never invoked."""
    names = ("invocations", "errors", "throttles", "coldStarts", "environmentsStopped")
    return dict.fromkeys(names, 0) | {"p50Ms": None, "p95Ms": None, "maxMemoryMb": None}


def figures_of(events: Iterable[Event]) -> dict[str, dict[str, Any]]:
    """By function: counts, times and memory. A pure function of events."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    times: defaultdict[str, list[float]] = defaultdict(list)
    memory: defaultdict[str, int] = defaultdict(int)
    for event in events:
        name = event.function
        if name is None:
            continue
        match event.kind:
            case "invocation.started":
                counts[name]["invocations"] += 1
                counts[name]["coldStarts"] += bool(event.data.get("cold"))
            case "invocation.responded":
                counts[name]["errors"] += bool(event.data.get("error"))
            case "invocation.throttled":
                counts[name]["throttles"] += 1
            case "environment.stopped":
                counts[name]["environmentsStopped"] += 1
            case "invocation.ended":
                times[name].append(float(event.data["durationMs"]))
                memory[name] = max(memory[name], int(event.data.get("maxMemoryMb") or 0))
    return {
        name: {
            **empty(), **counts[name],
            "p50Ms": percentile(times[name], 50), "p95Ms": percentile(times[name], 95),
            "maxMemoryMb": memory[name] or None,
        }
        for name in counts
    }  # fmt: skip
