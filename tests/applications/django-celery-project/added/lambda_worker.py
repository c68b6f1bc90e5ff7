import django

django.setup()

from django_celery_example.celery import app
from twolane import WorkerHandler

handler = WorkerHandler(app)
