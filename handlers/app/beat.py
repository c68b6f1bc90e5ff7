"""The beat function: a tick becomes the due entries of ``beat_schedule``."""

from app.tasks import celery
from twolane import BeatHandler

handler = BeatHandler(celery)
