from tasks import celery
from twolane import WorkerHandler

handler = WorkerHandler(celery)
