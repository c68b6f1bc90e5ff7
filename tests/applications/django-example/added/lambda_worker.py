import django

django.setup()

from proj.celery import app
from twolane import WorkerHandler

handler = WorkerHandler(app)
