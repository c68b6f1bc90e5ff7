from app.main import app
from twolane import ApiHandler

handler = ApiHandler(app)
