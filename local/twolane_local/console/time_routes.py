"""``/api/clock`` and ``/api/faults``: moving the clock, and injecting faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from twolane_local.clock.stepped import SteppedClock
from twolane_local.console.requests import Json, ProblemError, body_of, field, required_field

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from twolane_local.console.server import Parts

#: The longest leap, in seconds: schedules make up for missed times by one invocation each.
MOST_S = 86_400.0
#: The number of waiting tasks that are shown.
_WAITING = 20


class TimeRoutes:
    """The clock can be moved only if functions run in this process; else it is the system's."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.routes = [
            Route("/clock", self.clock),
            Route("/clock", self.move, methods=["POST"]),
            Route("/faults", self.faults),
            Route("/faults", self.inject, methods=["POST"]),
            Route("/faults/clear", self.clear, methods=["POST"]),
        ]

    async def clock(self, _: Request) -> Response:
        return Json(clock_state(self._parts))

    async def move(self, request: Request) -> Response:
        """Pause, resume, step or advance the clock."""
        body, clock = await body_of(request), self._parts.clock
        if not isinstance(clock, SteppedClock):
            raise ProblemError(409, _REASON)
        action = required_field(body, "action", str)
        match action:
            case "pause":
                clock.pause()
                text = "the clock was paused"
            case "resume":
                clock.resume()
                text = "the clock runs on"
            case "step":
                text = f"the clock was stepped by {clock.step():.3g} s"
            case "advance":
                seconds = float(required_field(body, "seconds", (int, float)))
                if not 0 < seconds <= MOST_S:
                    raise ProblemError(400, f"'seconds' must be above 0 and at most {MOST_S:.0f}")
                clock.advance(seconds)
                text = f"the clock was advanced by {seconds:g} s"
            case _:
                raise ProblemError(
                    400, f"'action' is {action!r}; it is one of pause, resume, step, advance"
                )
        self._parts.journal.record("clock.moved", action=action, text=text)
        return Json(clock_state(self._parts))

    async def faults(self, _: Request) -> Response:
        """List the faults that can be injected here, and the active ones."""
        from twolane_local.faults.injection import CATALOGUE, EMULATOR

        faults = self._parts.faults
        kinds = [kind.as_dict() for kind in CATALOGUE.values() if EMULATOR in kind.where]
        return Json(
            {
                "catalogue": kinds if faults is not None else [],
                "active": faults.active() if faults is not None else [],
            }
        )

    async def inject(self, request: Request) -> Response:
        from twolane_local.faults.injection import CATALOGUE, EMULATOR

        body, faults = await body_of(request), self._parts.faults
        name = required_field(body, "name", str)
        kind = CATALOGUE.get(name)
        if faults is None or kind is None or EMULATOR not in kind.where:
            here = ", ".join(k.name for k in CATALOGUE.values() if EMULATOR in k.where)
            raise ProblemError(404, f"no fault is named {name!r} here; there are: {here}")
        parameters: dict[str, Any] = field(body, "parameters", dict, {})
        _check(parameters, {each.name: each.default for each in kind.parameters}, name)
        identity = faults.inject(name, seed=field(body, "seed", int, 0), **parameters)
        return Json({"id": identity}, 201)

    async def clear(self, request: Request) -> Response:
        body, faults = await body_of(request), self._parts.faults
        identity = field(body, "id", str)
        return Json({"cleared": faults.clear(identity) if faults is not None else 0})


def _check(given: dict[str, Any], known: dict[str, Any], fault: str) -> None:
    """Raise ``ProblemError`` for an unknown parameter, or one of the wrong type."""
    for name, value in given.items():
        if name not in known:
            raise ProblemError(400, f"{fault} has no parameter {name!r}; it has {', '.join(known)}")
        wanted = "number" if isinstance(known[name], (int, float)) else "string"
        kind = (int, float) if wanted == "number" else str
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ProblemError(400, f"{name!r} of {fault} must be a {wanted}")


_REASON = (
    "The clock can be moved only if functions run in this process: start with "
    "`twolane up --in-process`."
)


def clock_state(parts: Parts) -> dict[str, Any]:
    """Return the clock's state as the control API shows it."""
    clock = parts.clock
    now = clock.time()
    if not isinstance(clock, SteppedClock):
        return {"now": now, "offset": 0.0, "paused": False, "canMove": False, "reason": _REASON,
                "waiting": []}  # fmt: skip
    waiting = [{"at": at, "inSeconds": round(at - now, 3)} for at in clock.waiting[:_WAITING]]
    return {"now": now, "offset": round(clock.offset, 3), "paused": clock.paused, "canMove": True,
            "reason": None, "waiting": waiting}  # fmt: skip
