from shop.asgi import application

from twolane import ApiHandler

handler = ApiHandler(application)
