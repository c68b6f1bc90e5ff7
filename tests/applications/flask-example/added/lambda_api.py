from a2wsgi import WSGIMiddleware
from lambda_flask import app
from twolane import ApiHandler

handler = ApiHandler(WSGIMiddleware(app), lifespan="off")
