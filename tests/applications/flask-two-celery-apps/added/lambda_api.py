from lambda_flask import app
from twolane import ApiHandler

handler = ApiHandler(app)
