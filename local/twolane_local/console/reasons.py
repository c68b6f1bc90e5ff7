"""One reason why something is where it is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Reason:
    """``code`` for programs, ``text`` for people, ``numbers`` for both.

    ``state`` is ``running``, ``waiting`` (time or others will move it), ``stuck`` (nothing will)
    or ``over``.
    """

    code: str
    text: str
    state: str
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def about(self, subject: str) -> Reason:
        """The same, saying of what."""
        return replace(self, text=f"{subject}: {self.text}")

    def as_dict(self) -> dict[str, Any]:
        """As the control API answers."""
        return {**self.numbers, "code": self.code, "text": self.text, "state": self.state}


def seconds(value: float) -> str:
    """A span of time as people say it."""
    value = max(0.0, value)
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7_200 else f"{value / 3_600:.1f} h"
