from app.celery_app import celery_app
from twolane import WorkerHandler

handler = WorkerHandler(celery_app)
