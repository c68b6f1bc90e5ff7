from proj.celery import app
from twolane import BeatHandler

handler = BeatHandler(app)
