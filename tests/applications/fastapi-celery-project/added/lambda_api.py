from lambda_fastapi import app
from twolane import ApiHandler

handler = ApiHandler(app)
