from django_celery_example.asgi import application
from twolane import ApiHandler

handler = ApiHandler(application)
