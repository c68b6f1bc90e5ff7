"""The worker function."""

from campaign_tasks import app

from twolane import WorkerHandler

handler = WorkerHandler(app)
