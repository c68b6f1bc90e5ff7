from twolane import WorkerHandler

from tasks import celery

handler = WorkerHandler(celery)
