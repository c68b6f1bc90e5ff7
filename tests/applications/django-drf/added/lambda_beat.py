import django

django.setup()

from app.celery import app
from twolane import BeatHandler

handler = BeatHandler(app)
