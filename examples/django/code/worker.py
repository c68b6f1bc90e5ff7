from twolane import WorkerHandler

from shop.celery import app

handler = WorkerHandler(app)
