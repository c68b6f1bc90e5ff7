from lambda_celery import celery_app
from twolane import WorkerHandler

handler = WorkerHandler(celery_app)
