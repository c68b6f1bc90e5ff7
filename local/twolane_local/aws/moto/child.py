"""The process that runs moto: ``child PARENT_PID ENDPOINT [DIRECTORY]``.

Moto's imports cost more than a second and its calls hold the interpreter: in a process of its own
it delays neither the emulator's start nor its requests. Commands come as lines of JSON on stdin,
each answered by one line on stdout; the end of stdin ends the process.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.aws import real_aws
from twolane_local.aws.lambda_.parent_death import die_with_parent
from twolane_local.aws.moto import notifications as patches
from twolane_local.aws.moto import references
from twolane_local.aws.moto import references as secrets
from twolane_local.aws.moto.dynamodb import Expiry, TableLog, one_request_at_a_time
from twolane_local.aws.moto.emulator import Emulator
from twolane_local.aws.moto.notifications import FAULTS, Notifications, Rules, Subscriptions
from twolane_local.aws.moto.objects import ObjectFiles, OneObjectRequest
from twolane_local.model import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: What the last template has made, beside its resources.
NOTIFICATIONS, SUBSCRIPTIONS, RULES = Notifications(), Subscriptions(), Rules()


def serve(directory: Path | None) -> tuple[int, TableLog | None, ObjectFiles | None]:
    """Serve moto's APIs on a free loopback port, from threads."""
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        create_backend_app,
    )
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: Any) -> None:
            """Nothing: the emulator's journal says what matters."""

    app: Any = DomainDispatcherApplication(create_backend_app)
    log = TableLog(app, directory) if directory else None
    objects = ObjectFiles(log, directory) if log and directory else None
    front = OneObjectRequest(Expiry(objects or app))
    server = make_server("127.0.0.1", 0, front, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.port, log, objects


def items() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every item of every table, in DynamoDB's JSON."""
    from moto.dynamodb.models import dynamodb_backends

    for table in dynamodb_backends[ACCOUNT][REGION].tables.values():
        for item in table.all_items():
            yield table.name, on_the_wire(item.to_json()["Attributes"])


def on_the_wire(value: Any) -> Any:
    """DynamoDB's JSON; moto has some binary values as bytes and some as the base64 of a request."""
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case dict():
            return {name: on_the_wire(each) for name, each in value.items()}
        case list():
            return [on_the_wire(each) for each in value]
    return value


def create(
    name: str,
    template: dict[str, Any],
    restore: Callable[[], None] | None = None,
    stumbled: Callable[[str, Exception], object] | None = None,
) -> dict[str, Any]:
    """Create the stack, or bring it to the new template; returns its outputs.

    ``stumbled`` hears of each rule that moto stumbles over, by name; without it, that raises.

    ``restore`` is called once all buckets are there and before anyone hears of their objects.
    """
    identities = template.pop("Identities", [])
    notifications = template.pop("Notifications", {})
    rules = template.pop("Rules", [])
    subscriptions = template.pop("Subscriptions", [])
    secrets.keep(template.pop("Secrets", []))
    patches.ELSEWHERE[name] = template.pop("Elsewhere", {})
    outputs = create_resources(name, template)
    expire_items(template["Resources"].values())
    keep_versions(template["Resources"].values())
    if restore is not None:
        restore()
    if identities:
        verify_senders(identities)
    NOTIFICATIONS.replace(notifications)
    SUBSCRIPTIONS.replace(subscriptions)
    RULES.replace(rules, stumbled)
    return outputs


@contextmanager
def own_faults() -> Iterator[dict[str, str]]:
    """Keeps the resources that moto stumbles over, and has it create the others."""
    from moto.cloudformation import parsing as moto_parsing

    parsing: Any = moto_parsing
    failed: dict[str, str] = {}
    create_one = parsing.parse_and_create_resource

    def tolerant(logical_id: str, *rest: Any, **named: Any) -> Any:
        try:
            return create_one(logical_id, *rest, **named)
        except FAULTS as error:
            failed[logical_id] = repr(error)
            return None

    parsing.parse_and_create_resource = tolerant
    try:
        yield failed
    finally:
        parsing.parse_and_create_resource = create_one


def create_resources(name: str, template: dict[str, Any]) -> dict[str, Any]:
    """What moto's CloudFormation knows of it."""
    from moto.cloudformation.models import cloudformation_backends

    backend = cloudformation_backends[ACCOUNT][REGION]
    template.pop("Where", None)
    template["Outputs"] = {
        name: output
        for name, output in (template.get("Outputs") or {}).items()
        if references.answers(template["Resources"], output["Value"])
    }
    text = json.dumps(template)
    known = {stack.name: stack for stack in backend.stacks.values()}
    if name in known:
        known[name].update(text)
        stack = known[name]
    else:
        stack = backend.create_stack(
            name=name, template=text, parameters={}, notification_arns=[], tags={}
        )
    made = (output for output in stack.output_map.values() if output is not None)
    return {output.key: output.value for output in made}


def expire_items(resources: Iterable[dict[str, Any]]) -> None:
    """moto's CloudFormation leaves a table's time to live out."""
    from moto.dynamodb.models import dynamodb_backends

    for resource in resources:
        properties = resource.get("Properties") or {}
        if resource["Type"] == "AWS::DynamoDB::Table" and "TimeToLiveSpecification" in properties:
            dynamodb_backends[ACCOUNT][REGION].update_time_to_live(
                properties["TableName"], properties["TimeToLiveSpecification"]
            )


def keep_versions(resources: Iterable[dict[str, Any]]) -> None:
    """moto's CloudFormation leaves a bucket's versioning out."""
    from moto.s3.models import s3_backends

    for resource in resources:
        properties = resource.get("Properties") or {}
        if resource["Type"] == "AWS::S3::Bucket" and "VersioningConfiguration" in properties:
            s3_backends[ACCOUNT]["aws"].put_bucket_versioning(
                properties["BucketName"], properties["VersioningConfiguration"]["Status"]
            )


def verify_senders(identities: list[str]) -> None:
    """moto refuses mail from senders that nobody verified, as Amazon SES does."""
    from moto.ses.models import ses_backends

    backend = ses_backends[ACCOUNT][REGION]
    for identity in identities:
        if "@" in identity:
            backend.verify_email_identity(identity)
        else:
            backend.verify_domain(identity)


def deliver(arn: str, body: str) -> None:
    """The result of an asynchronous invocation, to its destination."""
    if ":sns:" in arn:
        from moto.sns.models import sns_backends

        sns_backends[ACCOUNT][REGION].publish(message=body, arn=arn)
    elif ":events:" in arn:
        from moto.events.models import events_backends

        record = json.loads(body)
        outcome = "Success" if record.get("responsePayload") is not None else "Failure"
        events_backends[ACCOUNT][REGION].put_events(
            [
                {
                    "Source": "lambda",
                    "DetailType": f"Lambda Function Invocation Result - {outcome}",
                    "Detail": body,
                    "Resources": [record["requestContext"]["functionArn"]],
                    "EventBusName": arn,
                }
            ]
        )
    else:
        raise ValueError("destinations are queues, functions, topics and event buses")


def main() -> None:
    die_with_parent(int(sys.argv[1]))
    real_aws.refuse()
    patches.apply(Emulator(sys.argv[2]))
    with one_request_at_a_time():
        obey(Path(sys.argv[3]) if len(sys.argv) > 3 else None)


def obey(directory: Path | None) -> None:
    """Serve moto, and do what stdin says until it ends."""
    port, log, objects = serve(directory)
    print(json.dumps({"port": port}), flush=True)  # noqa: T201 (the protocol of the pipe)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if "deliver" in command:
                deliver(command["deliver"], command["body"])
                answer: dict[str, Any] = {}
            elif "look_up" in command:
                answer = {"found": references.look_up(command["look_up"])}
            else:
                restore = objects.restore if objects else None
                with own_faults() as failed:
                    outputs = create(
                        command["name"], command["template"], restore,
                        lambda name, error: failed.setdefault(name, repr(error)),
                    )  # fmt: skip
                answer = {"outputs": outputs, "failed": failed}
                objects = None  # the buckets hold it from now on
                if log is not None:
                    log.replay(items)
                    log = None  # the tables hold it from now on
        except Exception as error:  # noqa: BLE001 (told to the parent, which raises it)
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer, default=str), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
