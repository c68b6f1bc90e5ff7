"""What the environment decides. Every field is an environment variable, in capitals."""

from __future__ import annotations

import os
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Without any variable set: Celery on a local Redis, and mail that is only logged.

    A plain model, as pydantic-settings would be 15 ms of every cold start.
    """

    model_config = ConfigDict(alias_generator=str.upper, frozen=True)

    #: The SQS queue of the deferred lane; empty, Celery's broker is ``redis_url``.
    task_queue_url: str = ""
    redis_url: str = "redis://localhost:6379/0"
    #: Where messages above the queue's size limit go; empty, they are refused.
    claim_check_bucket: str = ""
    #: ``redis://…`` or ``dynamodb://@REGION/TABLE?ttl_seconds=…``; empty, ``redis_url``.
    result_backend: str = ""
    #: What each key in Redis begins with; ``{any}:`` keeps all in one slot of a Redis cluster.
    result_key_prefix: str = ""
    #: The queue of a stock ``celery worker`` for what is beyond Lambda, and the tasks it does,
    #: separated by commas.
    long_queue_url: str = ""
    long_tasks: str = ""
    aws_region: str = "us-east-1"
    #: Seconds that a task may take, by Celery's own limits: told to end shortly before, ended then.
    task_time_limit: Annotated[float, Field(gt=0)] | None = None

    #: The API key's SHA-256 in hexadecimal; empty, the API asks for no key.
    api_key_sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""

    #: ``ses`` sends through Amazon SES, ``log`` only writes the log line.
    mailer: Literal["log", "ses"] = "log"
    sender: str = "notifications@example.com"
    #: The share of sending attempts that fail, 0 to 1.
    notify_failure_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    #: Addresses, separated by commas.
    digest_recipients: str = ""

    def celery(self) -> dict[str, Any]:
        """Celery's configuration: JSON only, on SQS where there is a queue, else on Redis."""
        common: dict[str, Any] = {
            "task_serializer": "json",
            "result_serializer": "json",
            "accept_content": ["json"],
            "result_backend": self.result_backend or self.redis_url,
            "result_extended": True,
            "task_track_started": True,
            "broker_connection_retry_on_startup": True,
        }
        if self.task_time_limit is not None:
            common["task_time_limit"] = self.task_time_limit
            common["task_soft_time_limit"] = self.task_time_limit * 5 / 6
        if self.result_key_prefix:
            common["result_backend_transport_options"] = {
                "global_keyprefix": self.result_key_prefix
            }
        if not self.task_queue_url:
            return {**common, "broker_url": self.redis_url}
        options: dict[str, Any] = {
            "region": self.aws_region,
            "predefined_queues": {"tasks": {"url": self.task_queue_url}},
            # kombu's default wraps base64 in base64: twice the bytes for nothing.
            "sqs_base64_encoding": False,
        }
        if self.claim_check_bucket:
            options["claim_check"] = {"bucket": self.claim_check_bucket}
        if self.long_queue_url:
            options["predefined_queues"]["long"] = {"url": self.long_queue_url}
            names = [name.strip() for name in self.long_tasks.split(",") if name.strip()]
            common["task_routes"] = {name: {"queue": "long"} for name in names}
        return {
            **common,
            "broker_url": "sqs://",
            "broker_transport_options": options,
            "task_default_queue": "tasks",
        }


@cache
def get_settings() -> Settings:
    """The settings, read once per execution environment."""
    return Settings.model_validate(dict(os.environ))
