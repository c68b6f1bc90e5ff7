from lambda_flask import celery
from twolane import BeatHandler

handler = BeatHandler(celery)
