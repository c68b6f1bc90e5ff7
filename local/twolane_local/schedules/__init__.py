"""EventBridge on this machine: schedule expressions, Scheduler and scheduled rules."""

from twolane_local.schedules.book import ScheduleBook
from twolane_local.schedules.source import ScheduleSource

__all__ = ["ScheduleBook", "ScheduleSource"]
