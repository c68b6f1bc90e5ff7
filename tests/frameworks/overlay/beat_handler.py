from shop.celery import app as celery

from twolane import BeatHandler

handler = BeatHandler(celery)
