"""The guard against tasks that publish themselves without end.

With ``RecursiveLoop: Allow`` Lambda's own is off, and it knows nothing but a number. Here a message
is refused if one task has led to another ``twolane_max_depth`` times (1,000) at more than
``twolane_max_depth_rate`` generations a minute (600). Either setting at 0 turns it off.

Depth alone is not an error: a task may send itself once a minute for ever, or be retried a thousand
times over days. The time is therefore that of the latest ``twolane_max_depth``
generations; and it ends when the message was sent, so that the deliveries on which it is refused
change nothing, while a redrive, which sends it anew, lets it go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane.errors import ConfigurationError, RunawayError
from twolane.publish.message import DEPTH, SINCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery import Celery

    from twolane.worker.message import TaskFacts
    from twolane.worker.records import Run

MAX_DEPTH, MAX_DEPTH_RATE = 1000, 600

#: A time from here on is not a real one; neither is an infinite one, nor NaN.
_NO_TIME = 1e12


class Descent:
    """The depth and the rate that an application allows."""

    def __init__(self, app: Celery, clock: Callable[[], float]) -> None:
        """Raises ``ConfigurationError`` for a setting that is not a number from 0 on."""
        self._app, self._clock = app, clock
        self._most = int(_setting(app, "twolane_max_depth", MAX_DEPTH))
        self._rate = _setting(app, "twolane_max_depth_rate", MAX_DEPTH_RATE)
        self._watches = self._most > 0 and self._rate > 0
        self._window_s = self._most / self._rate * 60 if self._watches else 0.0

    def following(self, headers: Mapping[str, Any]) -> Mapping[str, Any]:
        """The headers of what a task with these publishes; they replace a retry's own."""
        if not self._watches:
            return {}
        depth, since = _found(headers)
        begins = since is None or not depth % self._most
        return {DEPTH: depth + 1, SINCE: round(self._clock(), 3) if begins else since}

    def check(self, run: Run) -> None:
        """Raises ``RunawayError`` for a task that is refused; its result then says so."""
        facts = run.facts
        if facts is None or DEPTH not in facts.headers:
            return
        depth, since = _found(facts.headers)
        if not depth or not self._watches or depth % self._most or since is None:
            return
        took_s = run.record.sent_s - since
        if took_s >= self._window_s:
            return
        error = RunawayError(
            f"{facts.name} is task {depth + 1:,} in a line of tasks of which each published the "
            f"next, and the latest {self._most:,} took {max(0.0, took_s):.1f} s: it looks like a "
            "loop without an end. It was not run, and its message goes to the dead-letter queue. "
            "If the line has an end, redrive the message, and raise twolane_max_depth or "
            f"twolane_max_depth_rate ({self._rate:g} a minute), or set one to 0"
        )
        self._say(facts, error)
        raise error

    def _say(self, facts: TaskFacts, error: RunawayError) -> None:
        """Store the failure, as Celery does for unknown tasks: a caller may wait for the result."""
        from celery.utils.objects import Bunch

        app: Any = self._app
        if facts.headers.get("ignore_result"):
            return
        about = Bunch(
            name=facts.name, chord=None, root_id=facts.headers.get("root_id"),
            correlation_id=facts.task_id, reply_to=None, errbacks=None, id=facts.task_id,
        )  # fmt: skip
        app.backend.mark_as_failure(facts.task_id, error, request=about)


def _setting(app: Celery, name: str, default: float) -> float:
    value = app.conf.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ConfigurationError(f"{name} must be a number from 0 on, not {value!r}")
    return value


def _found(headers: Mapping[str, Any]) -> tuple[int, float | None]:
    """Depth and window as the headers say; those of a first task if the headers are not ours."""
    depth, since = headers.get(DEPTH), headers.get(SINCE)
    if type(depth) is not int or depth < 1:
        return 0, None
    if not isinstance(since, int | float) or not 0 < since < _NO_TIME:
        return 0, None
    return depth, since
