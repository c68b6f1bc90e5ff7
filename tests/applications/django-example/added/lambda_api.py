from a2wsgi import WSGIMiddleware
from proj.wsgi import application
from twolane import ApiHandler

handler = ApiHandler(WSGIMiddleware(application), lifespan="off")
