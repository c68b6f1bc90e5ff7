"""The mail provider: Amazon SES, with a simulator in front of it that fails on demand.

Addresses at ``simulator.example.com`` never reach the provider, whatever it is; each stands for one
way in which sending ends, as SES's own mailbox simulator does for the deployed system
(https://docs.aws.amazon.com/ses/latest/dg/send-an-email-from-console.html):

==================================  ========================================================
``bounce@simulator.example.com``    refused for good
``flaky@simulator.example.com``     unavailable at the first attempt, delivered at the second
``down@simulator.example.com``      unavailable at every attempt
==================================  ========================================================
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING

from app.settings import get_settings

if TYPE_CHECKING:
    from mypy_boto3_sesv2 import SESV2Client

SIMULATOR = "simulator.example.com"
SUBJECT = "A notification for you"


class ProviderUnavailableError(Exception):
    """The provider did not take the message this time; another attempt may succeed."""


class MessageRefusedError(Exception):
    """The provider will not take this message, however often it is asked."""


def deliver(email: str, message: str, *, attempt: int = 0) -> None:
    """Hand one message to the provider; ``attempt`` counts from 0."""
    settings = get_settings()
    name, _, domain = email.rpartition("@")
    if domain == SIMULATOR:
        _simulate(name, attempt)
    elif _unlucky(email, attempt, settings.notify_failure_rate):
        raise ProviderUnavailableError(f"attempt {attempt + 1} was made to fail by setting")
    elif settings.mailer == "ses":
        _send(settings.sender, email, message)


def _simulate(name: str, attempt: int) -> None:
    if name == "bounce":
        raise MessageRefusedError("the recipient's mailbox does not exist")
    if name == "down" or (name == "flaky" and attempt == 0):
        raise ProviderUnavailableError(f"no answer at attempt {attempt + 1}")


def _unlucky(email: str, attempt: int, rate: float) -> bool:
    # By hash, not by chance: the same run fails at the same places again.
    digest = hashlib.sha256(f"{email} {attempt}".encode()).digest()
    return int.from_bytes(digest[:4]) < rate * 2**32


def _send(sender: str, email: str, message: str) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    client = _client()
    try:
        client.send_email(
            FromEmailAddress=sender,
            Destination={"ToAddresses": [email]},
            Content={
                "Simple": {"Subject": {"Data": SUBJECT}, "Body": {"Text": {"Data": message}}},
            },
        )
    except client.exceptions.MessageRejected as refused:
        raise MessageRefusedError(str(refused)) from refused
    except (BotoCoreError, ClientError) as error:
        raise ProviderUnavailableError(str(error)) from error


@cache
def _client() -> SESV2Client:
    # boto3 takes as long to import as FastAPI: not before the first mail.
    import boto3

    return boto3.Session(region_name=get_settings().aws_region).client("sesv2")
