from lambda_flask import celery
from twolane import WorkerHandler

handler = WorkerHandler(celery)
