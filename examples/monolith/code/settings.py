import os

DATABASE_URL = os.environ.get("DATABASE_URL", "sqlite:///orders.db")
REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
TASK_QUEUE_URL = os.environ.get("TASK_QUEUE_URL", "")
