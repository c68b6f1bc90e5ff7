import django

django.setup()

from core.celery import app
from twolane import WorkerHandler

handler = WorkerHandler(app)
