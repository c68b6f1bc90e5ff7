from twolane import ApiHandler

from shop.asgi import application

handler = ApiHandler(application)
