"""``/api/functions``: environments, recent figures, and invocations by hand."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from twolane_local.aws.invocation import TenancyError, ThrottledError, tenancy
from twolane_local.aws.lambda_.functions import BUSY
from twolane_local.console.requests import Json, ProblemError, body_of, field
from twolane_local.journal import redact
from twolane_local.journal.related_events import is_failure
from twolane_local.journal.task_counts import percentile
from twolane_local.model.states import camel_case

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from starlette.requests import Request
    from starlette.responses import Response

    from twolane_local.console.server import Parts
    from twolane_local.journal import Event
    from twolane_local.model.states import EnvironmentState

#: The most events that are read for the figures.
LOOK = 50_000


class FunctionRoutes:
    """The present state is that of the pools; the figures are from the journal."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.routes = [
            Route("/functions", self.functions),
            Route("/functions/{name}/invoke", self.invoke, methods=["POST"]),
        ]

    async def functions(self, _: Request) -> Response:
        """List every function of the stack."""
        states = self._parts.functions.states()
        events = tuple(islice(reversed(tuple(self._parts.journal)), LOOK))
        now = self._parts.clock.time()
        requests = {each for state in states.values() for one in state.environments
                    for each in one.requests}  # fmt: skip
        figures = await asyncio.to_thread(figures_of, events)
        memory = await asyncio.to_thread(memory_of, events, requests)
        shown = []
        for name, state in states.items():
            spec = self._parts.functions.spec(name)
            shown.append(
                {
                    "name": name, "logicalId": spec.logical_id + name.removeprefix(spec.name),
                    "handler": spec.handler,
                    "runtime": spec.runtime, "memoryMb": spec.memory_mb,
                    "timeoutSeconds": spec.timeout_s,
                    "concurrency": {
                        key: value for key, value in camel_case(state).items()
                        if key != "environments"
                    },
                    "environments": [
                        environment_of(each, now, memory) for each in state.environments
                    ],
                    **(figures.get(name) or no_figures()),
                }
            )  # fmt: skip
        return Json({"functions": shown})

    async def invoke(self, request: Request) -> Response:
        """Invoke a function and wait for the outcome."""
        name, body = request.path_params["name"], await body_of(request)
        if name not in self._parts.functions.states():
            names = ", ".join(self._parts.functions.states())
            raise ProblemError(404, f"there is no function named {name!r}; there are: {names}")
        try:
            done = await self._parts.functions.invoke(
                name,
                json.dumps(body.get("event", {})).encode(),
                **tenancy(field(body, "tenantId", str, "")),
            )
        except ThrottledError as error:
            raise ProblemError(429, f"{name} has no free concurrency") from error
        except TenancyError as error:
            raise ProblemError(400, str(error)) from error
        return Json(
            {
                "requestId": done.request_id,
                "payload": redact.text(done.payload.decode("utf-8", "replace")),
                "error": done.error,
                "cold": done.cold,
                "durationMs": round(done.duration_ms, 2),
                "log": done.log_tail().decode("utf-8", "replace"),
            }
        )


def no_figures() -> dict[str, Any]:
    """Return the figures of a function that was never invoked."""
    names = (
        "invocations", "errors", "throttles", "recursiveInvocationsDropped", "coldStarts",
        "environmentsStopped",
    )  # fmt: skip
    return dict.fromkeys(names, 0) | {"p50Ms": None, "p95Ms": None, "maxMemoryMb": None}


def environment_of(
    state: EnvironmentState, now: float, memory: Mapping[str, int]
) -> dict[str, Any]:
    """Return an ``Environment`` of docs/console.md; ``memory`` is from ``memory_of``."""
    shown = {
        "id": state.id, "state": state.state, "since": now - state.for_s,
        "memoryMb": next((memory[each] for each in state.requests if each in memory), None),
        "invocations": state.invocations,
    }  # fmt: skip
    return shown | ({"requestId": state.requests[0]} if state.state == BUSY else {})


def memory_of(events: Iterable[Event], requests: AbstractSet[str]) -> dict[str, int]:
    """Return the maximum memory of a request's environment in MB, by request."""
    found: dict[str, int] = {}
    for event in events:
        if len(found) == len(requests):
            break
        identity = event.request_id
        if event.kind == "invocation.ended" and identity is not None and identity in requests:
            found[identity] = int(event.data.get("maxMemoryMb") or 0)
    return {request: memory for request, memory in found.items() if memory}


def figures_of(events: Iterable[Event]) -> dict[str, dict[str, Any]]:
    """Return counts, times and memory by function, from events."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    times: defaultdict[str, list[float]] = defaultdict(list)
    memory: defaultdict[str, int] = defaultdict(int)
    errors: defaultdict[str, set[Any]] = defaultdict(set)
    for event in events:
        name = event.function
        if name is None:
            continue
        if is_failure(event):  # its response, its end or both
            errors[name].add(event.request_id or event.seq)
        match event.kind:
            case "invocation.started":
                counts[name]["invocations"] += 1
                counts[name]["coldStarts"] += bool(event.data.get("cold"))
            case "invocation.throttled":
                counts[name]["throttles"] += 1
            case "invocation.dropped":
                counts[name]["recursiveInvocationsDropped"] += 1
            case "environment.stopped":
                counts[name]["environmentsStopped"] += 1
            case "invocation.ended":
                times[name].append(float(event.data["durationMs"]))
                memory[name] = max(memory[name], int(event.data.get("maxMemoryMb") or 0))
    return {
        name: {
            **no_figures(), **counts[name], "errors": len(errors[name]),
            "p50Ms": percentile(times[name], 50), "p95Ms": percentile(times[name], 95),
            "maxMemoryMb": memory[name] or None,
        }
        for name in counts
    }  # fmt: skip
