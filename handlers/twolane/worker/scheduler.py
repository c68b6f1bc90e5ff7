"""The one call to EventBridge Scheduler: create an entry.

By the light client, as everything that the worker says to AWS; by boto3, whose import and client
take longer than most tasks, only where the credentials are not in the environment or the network
is not a plain one.

https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from twolane.environment import snapshot
from twolane.patches.clients import patient_boto
from twolane.publish.client import Call, LightClient
from twolane.publish.errors import EnqueueError
from twolane.publish.target import Endpoint, configured, credentials_in, domain_of, needs_boto

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane.publish.connection import Response


class Scheduler:
    """Scheduler in any region; an entry that is there already is as good as a new one."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._light = LightClient()
        self._boto: dict[str, Any] = {}
        snapshot.holds(self)

    def let_go(self) -> None:
        """Close boto3's clients; the next call makes another."""
        while self._boto:
            self._boto.popitem()[1].close()

    def create(self, region: str, entry: Mapping[str, Any]) -> None:
        """``entry`` has CreateSchedule's arguments; its name needs no encoding.

        Raises ``EnqueueError``.
        """
        credentials = credentials_in(self._environ)
        endpoint = _endpoint(region, self._environ)
        if credentials is None or needs_boto(
            endpoint.name, secure=endpoint.secure, environ=self._environ
        ):
            self._create_by_boto(region, entry)
            return
        fields = {key: value for key, value in entry.items() if key != "Name"}
        self._light.make(
            Call(
                endpoint,
                region,
                "scheduler",
                credentials,
                {"content-type": "application/json"},
                json.dumps(fields).encode(),
                name="EventBridge Scheduler",
                action="CreateSchedule",
                about=f"{entry['GroupName']}/{entry['Name']}",
                taken="if the entry was made after all, a second one of its name is not",
                path=f"/schedules/{entry['Name']}",
            ),
            _answer,
        )

    def _create_by_boto(self, region: str, entry: Mapping[str, Any]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        if region not in self._boto:
            import boto3

            self._boto[region] = patient_boto(boto3.client("scheduler", region_name=region))
        client = self._boto[region]
        try:
            client.create_schedule(**entry)
        except client.exceptions.ConflictException:
            return
        except (BotoCoreError, ClientError) as error:
            raise EnqueueError(
                f"EventBridge Scheduler refused CreateSchedule on {entry['GroupName']}/"
                f"{entry['Name']}: {error}"
            ) from error


def _endpoint(region: str, environ: Mapping[str, str]) -> Endpoint:
    usual = f"https://scheduler.{region}.{domain_of(region)}"
    return Endpoint.of(configured("SCHEDULER", environ) or usual)


def _answer(response: Response) -> dict[str, Any] | None:
    """What says that the entry is there: its ARN, or a conflict with one of its name.

    A conflict is AWS's only 409; its code is then in a header. moto has it in the body.
    """
    try:
        said = json.loads(response.body)
    except ValueError:
        said = None
    answer: dict[str, Any] = said if isinstance(said, dict) else {}
    conflict = response.status == 409 or answer.get("__type") == "ConflictException"
    return answer if conflict or (response.status == 200 and "ScheduleArn" in answer) else None
