"""The worker function: SQS events become Celery tasks."""

from app.tasks import celery
from twolane import WorkerHandler

handler = WorkerHandler(celery)
