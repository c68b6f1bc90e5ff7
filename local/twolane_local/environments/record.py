"""What the journal hears of one invocation: that it began, what it answered, and how it ended.

Each is told once, whoever tells it: the environment, which knows the figures, or its pool, which
knows that the environment can tell nothing more. What has begun ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.journal import cut

if TYPE_CHECKING:
    from twolane_local.environments.report import Report
    from twolane_local.journal import Journal


class InvocationRecord:
    """Of one request to one function."""

    __slots__ = ("_at", "_ended", "_function", "_journal", "_request_id", "_responded")

    def __init__(self, journal: Journal, function: str, request_id: str) -> None:
        self._journal, self._function, self._request_id = journal, function, request_id
        self._at: float | None = None
        self._responded = self._ended = False

    def started(self, *, cold: bool, payload: bytes | None = None) -> None:
        """An environment has it. ``payload`` is the event, for whoever looks at it later."""
        if self._at is None:
            content: dict[str, Any] = {} if payload is None else {"payload": cut(payload)}
            self._at = self._journal.record(
                "invocation.started",
                function=self._function,
                request_id=self._request_id,
                cold=cold,
                **content,
            ).at

    def responded(self, duration_ms: float, error: str | None, payload: bytes | None) -> None:
        """Its caller has the outcome; ``payload`` is the error object where there is an error."""
        if self._at is None or self._responded:
            return
        self._responded = True
        content: dict[str, Any] = {} if payload is None else {"payload": cut(payload)}
        self._journal.record(
            "invocation.responded",
            function=self._function,
            request_id=self._request_id,
            durationMs=round(duration_ms, 2),
            error=error,
            **content,
        )

    def ended(self, report: Report, reason: str = "") -> None:
        """Nothing of it runs any more. ``reason`` says what ended it, if not the handler did."""
        if self._at is None or self._ended:
            return
        self._ended = True
        why = {"reason": reason} if reason else {}
        self._journal.record(
            "invocation.ended",
            function=self._function,
            request_id=self._request_id,
            **report.as_dict(),
            **why,
        )

    @property
    def over(self) -> bool:
        """Nothing is to be told of it any more."""
        return self._ended

    def age_ms(self) -> float:
        """How long ago it began, on the journal's clock; 0 where it did not."""
        return 0.0 if self._at is None else (self._journal.now() - self._at) * 1000
