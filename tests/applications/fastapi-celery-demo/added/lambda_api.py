import lambda_celery  # noqa: F401
from src.api import app
from twolane import ApiHandler

handler = ApiHandler(app)
