from twolane import BeatHandler

from tasks import celery

handler = BeatHandler(celery)
