"""boto3's clients for one account and region, and its errors as ``LocalError``."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Account:
    """The account of the available credentials. Endpoints in the environment apply, so that ``eval
    "$(twolane env)"`` points this at the emulator.
    """

    def __init__(self, *, region: str | None = None, profile: str | None = None) -> None:
        import boto3

        with aws_errors("AWS's configuration"):
            # boto3 reads only AWS_DEFAULT_REGION; every other SDK and the CLI read AWS_REGION:
            # https://docs.aws.amazon.com/sdkref/latest/guide/feature-region.html
            self._session = boto3.Session(
                region_name=region or os.environ.get("AWS_REGION"), profile_name=profile
            )
        if self._session.region_name is None:
            raise LocalError("no AWS region is known: name it with --region, or set AWS_REGION")
        self.region: str = self._session.region_name
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        if service not in self._clients:
            make: Any = self._session.client
            self._clients[service] = make(service)
        return self._clients[service]

    @cached_property
    def id(self) -> str:
        """The account's twelve digits."""
        with aws_errors("the account"):
            return str(self.client("sts").get_caller_identity()["Account"])


@contextmanager
def aws_errors(subject: str) -> Iterator[None]:
    """Raise boto3's errors as ``LocalError``, with the subject and the next step."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        ProfileNotFound,
    )

    try:
        yield
    except NoCredentialsError as error:
        raise LocalError(
            f"{subject}: no AWS credentials; sign in (`aws sso login`, `aws configure`) or name a "
            "profile with --profile"
        ) from error
    except ProfileNotFound as error:
        raise LocalError(
            f"{subject}: {error}; `aws configure list-profiles` lists the profiles"
        ) from error
    except ClientError as error:
        raise LocalError(f"{subject}: {error}{_remedy(error)}") from error
    except BotoCoreError as error:
        raise LocalError(f"{subject}: {error}") from error


def _remedy(error: Any) -> str:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if "AccessDenied" in code or code in {"AuthorizationError", "UnauthorizedOperation"}:
        return " (docs/commands.md lists the permissions that each command needs)"
    if "Expired" in code:
        return " (sign in again)"
    return ""
