"""The process that runs moto: ``child PARENT_PID ENDPOINT [DIRECTORY]``.

Moto's imports take more than a second and its calls block the interpreter: in its own process it
delays neither the emulator's start nor its requests. Commands are lines of JSON on stdin, each
answered by one line on stdout; the end of stdin ends the process. The first line on stdin is the
secret without which it answers no request: its port is for the emulator alone.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.aws import real_aws
from twolane_local.aws.lambda_.parent_death import die_with_parent
from twolane_local.aws.moto import imports, notifications, references
from twolane_local.aws.moto.dynamodb import Expiry, TableLog, one_request_at_a_time
from twolane_local.aws.moto.emulator import Emulator
from twolane_local.aws.moto.faults import ServiceErrors
from twolane_local.aws.moto.notifications import FAULTS, Notifications, Rules, Subscriptions
from twolane_local.aws.moto.objects import ObjectFiles, OneObjectRequest
from twolane_local.model import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TextIO

    Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: Created for the last template, in addition to its resources.
NOTIFICATIONS, SUBSCRIPTIONS, RULES = Notifications(), Subscriptions(), Rules()


class Locked:
    """A WSGI app in front of another one, which only requests with the secret reach."""

    def __init__(self, app: Wsgi, secret: str) -> None:
        self._app, self._secret = app, secret.encode()

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        given = environ.pop("HTTP_X_TWOLANE_SECRET", "").encode("latin-1")
        if hmac.compare_digest(given, self._secret):
            return self._app(environ, start_response)
        start_response("403 Forbidden", [("Content-Length", "0"), ("Connection", "close")])
        return [b""]


def serve(directory: Path | None, secret: str) -> tuple[int, TableLog | None, ObjectFiles | None]:
    """Serve moto's APIs on a free loopback port, on threads; returns the port."""
    imports.without_flask()
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        create_backend_app,
    )
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: Any) -> None:
            """The emulator's journal has what matters."""

    app: Any = DomainDispatcherApplication(create_backend_app)
    log = TableLog(app, directory) if directory else None
    objects = ObjectFiles(log, directory) if log and directory else None
    front = Locked(ServiceErrors(OneObjectRequest(Expiry(objects or app))), secret)
    server = make_server("127.0.0.1", 0, front, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.port, log, objects


def items() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every item of every table, in DynamoDB's JSON."""
    from moto.dynamodb.models import dynamodb_backends

    for table in dynamodb_backends[ACCOUNT][REGION].tables.values():
        for item in table.all_items():
            yield table.name, encode_binary(item.to_json()["Attributes"])


def encode_binary(value: Any) -> Any:
    """DynamoDB's JSON of a value; moto keeps some binary values as bytes, others in base64."""
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case dict():
            return {name: encode_binary(each) for name, each in value.items()}
        case list():
            return [encode_binary(each) for each in value]
    return value


def create(
    name: str,
    template: dict[str, Any],
    restore: Callable[[], None] | None = None,
    on_fault: Callable[[str, Exception], object] | None = None,
    *,
    partial: bool = False,
) -> dict[str, Any]:
    """Create or update the stack; returns its outputs.

    With ``partial`` the template lacks what needs values of this one: nothing is removed for its
    sake, and nothing is delivered yet.
    ``restore`` is called when all buckets exist, before notifications of their objects are on.
    ``on_fault`` is called with each rule on which moto itself fails; without it, that raises.
    """
    identities = template.pop("Identities", [])
    bucket_notifications = template.pop("Notifications", {})
    rules = template.pop("Rules", [])
    subscriptions = template.pop("Subscriptions", [])
    references.create_secrets(template.pop("Secrets", []))
    notifications.ELSEWHERE[name] = template.pop("Elsewhere", {})
    outputs = create_resources(name, template, partial=partial)
    if partial:
        return outputs
    expire_items(template["Resources"].values())
    keep_versions(template["Resources"].values())
    if restore is not None:
        restore()
    if identities:
        verify_senders(identities)
    NOTIFICATIONS.replace(bucket_notifications)
    SUBSCRIPTIONS.replace(subscriptions)
    RULES.replace(rules, on_fault)
    return outputs


@contextmanager
def tolerate_faults() -> Iterator[dict[str, str]]:
    """Collect the resources on which moto itself fails, and let it create the others."""
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


def create_resources(
    name: str, template: dict[str, Any], *, partial: bool = False
) -> dict[str, Any]:
    """Create or update the stack in moto's CloudFormation; returns its outputs."""
    with imports.without_validator():
        from moto.cloudformation.models import cloudformation_backends

    backend = cloudformation_backends[ACCOUNT][REGION]
    template.pop("Where", None)
    known = {stack.name: stack for stack in backend.stacks.values()}
    if partial and name in known:
        former = json.loads(str(known[name].template))["Resources"]
        template["Resources"] = {**former, **template["Resources"]}
    template["Outputs"] = {
        name: output
        for name, output in (template.get("Outputs") or {}).items()
        if references.has_value(template["Resources"], output["Value"])
    }
    text = json.dumps(template)
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
    """Set the tables' time to live, which moto's CloudFormation ignores."""
    from moto.dynamodb.models import dynamodb_backends

    for resource in resources:
        properties = resource.get("Properties") or {}
        if resource["Type"] == "AWS::DynamoDB::Table" and "TimeToLiveSpecification" in properties:
            dynamodb_backends[ACCOUNT][REGION].update_time_to_live(
                properties["TableName"], properties["TimeToLiveSpecification"]
            )


def keep_versions(resources: Iterable[dict[str, Any]]) -> None:
    """Set the buckets' versioning, which moto's CloudFormation ignores."""
    from moto.s3.models import s3_backends

    for resource in resources:
        properties = resource.get("Properties") or {}
        if resource["Type"] == "AWS::S3::Bucket" and "VersioningConfiguration" in properties:
            s3_backends[ACCOUNT]["aws"].put_bucket_versioning(
                properties["BucketName"], properties["VersioningConfiguration"]["Status"]
            )


def verify_senders(identities: list[str]) -> None:
    """Verify senders of mail: moto refuses others, as Amazon SES does."""
    from moto.ses.models import ses_backends

    backend = ses_backends[ACCOUNT][REGION]
    for identity in identities:
        if "@" in identity:
            backend.verify_email_identity(identity)
        else:
            backend.verify_domain(identity)


def deliver(arn: str, body: str) -> None:
    """Send the record of an asynchronous invocation to its destination."""
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
    os.umask(0o077)  # what --persist keeps is its owner's
    # moto prints, and its lines are no answers.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        notifications.patch_moto(Emulator(sys.argv[2]))
        with one_request_at_a_time():
            run_commands(Path(sys.argv[3]) if len(sys.argv) > 3 else None, answers)


def run_commands(directory: Path | None, answers: TextIO) -> None:
    """Serve moto, and run the commands on stdin until it ends."""
    port, log, objects = serve(directory, sys.stdin.readline().strip())
    print(json.dumps({"port": port}), file=answers, flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if "deliver" in command:
                deliver(command["deliver"], command["body"])
                answer: dict[str, Any] = {}
            elif "look_up" in command:
                answer = {"found": references.look_up(command["look_up"])}
            else:
                partial = command.get("partial", False)
                restore = objects.restore if objects else None
                with tolerate_faults() as failed:
                    outputs = create(
                        command["name"], command["template"], restore,
                        lambda name, error: failed.setdefault(name, repr(error)), partial=partial,
                    )  # fmt: skip
                answer = {"outputs": outputs, "failed": failed}
                if not partial:
                    objects = None  # the buckets hold the objects from now on
                if log is not None and not partial:
                    log.replay(items)
                    log = None  # the tables hold the items from now on
        except Exception as error:  # noqa: BLE001 (sent to the parent, which raises it)
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer, default=str), file=answers, flush=True)


if __name__ == "__main__":
    main()
