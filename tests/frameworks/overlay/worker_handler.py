from shop.celery import app as celery

from twolane import WorkerHandler

handler = WorkerHandler(celery)
