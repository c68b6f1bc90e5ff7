"""``twolane schedules``"""

from __future__ import annotations

from twolane_local.schedules.commands import configure, run

__all__ = ["configure", "run"]
