from tasks import celery
from twolane import BeatHandler

handler = BeatHandler(celery)
