import os

SECRET_KEY = os.environ.get("SECRET_KEY", "only-on-this-machine")
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["orders"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": os.environ.get("DATABASE_ENGINE", "django.db.backends.sqlite3"),
        "NAME": os.environ.get("DATABASE_NAME", "shop.sqlite3"),
        "HOST": os.environ.get("DATABASE_HOST", ""),
        "USER": os.environ.get("DATABASE_USER", ""),
        "PASSWORD": os.environ.get("DATABASE_PASSWORD", ""),
    }
}

CELERY_RESULT_BACKEND = os.environ.get("RESULT_BACKEND", "redis://localhost:6379/0")
CELERY_BROKER_URL = "redis://localhost:6379/0"
if queue_url := os.environ.get("TASK_QUEUE_URL"):
    CELERY_BROKER_URL = "sqs://"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "region": os.environ["AWS_REGION"],
        "predefined_queues": {"tasks": {"url": queue_url}},
        "sqs_base64_encoding": False,
    }
    CELERY_TASK_DEFAULT_QUEUE = "tasks"
