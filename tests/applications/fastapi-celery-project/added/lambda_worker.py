from lambda_fastapi import celery
from twolane import WorkerHandler

handler = WorkerHandler(celery)
