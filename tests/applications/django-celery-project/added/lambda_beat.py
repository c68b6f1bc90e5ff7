from django_celery_example.celery import app
from twolane import BeatHandler

handler = BeatHandler(app)
