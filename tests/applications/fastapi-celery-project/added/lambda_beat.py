from lambda_fastapi import celery
from twolane import BeatHandler

handler = BeatHandler(celery)
