"""Celery beat with no beat process: a schedule's tick sends what is due of ``beat_schedule``."""

from twolane.beat.handler import BeatHandler

__all__ = ["BeatHandler"]
