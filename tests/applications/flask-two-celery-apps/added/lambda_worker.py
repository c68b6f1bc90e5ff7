from lambda_flask import add_app, factorial_app
from twolane import WorkerHandler

add = WorkerHandler(add_app)
factorial = WorkerHandler(factorial_app)
