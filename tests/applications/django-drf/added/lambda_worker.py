import django

django.setup()

from app.celery import app
from twolane import WorkerHandler

handler = WorkerHandler(app)
