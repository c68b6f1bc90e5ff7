"""What a check says: how bad it is, what it is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

#: The levels, the worst last. Only an error keeps something from working.
LEVELS = ("ok", "note", "warning", "error")


@dataclass(frozen=True, slots=True)
class Finding:
    """``remedy`` is empty where all is well."""

    check: str
    level: str
    what: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        found = {"check": self.check, "level": self.level, "what": self.what, "do": self.remedy}
        return {name: value for name, value in found.items() if value}


def ok(check: str, what: str) -> Finding:
    return Finding(check, "ok", what)
