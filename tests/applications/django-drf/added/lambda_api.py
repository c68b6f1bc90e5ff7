from app.wsgi import application
from twolane import ApiHandler

handler = ApiHandler(application)
