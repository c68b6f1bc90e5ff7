"""EventBridge on this machine: schedule expressions, Scheduler and scheduled rules."""

from twolane_local.aws.scheduler.schedule import ScheduleBook
from twolane_local.aws.scheduler.source import ScheduleSource

__all__ = ["ScheduleBook", "ScheduleSource"]
