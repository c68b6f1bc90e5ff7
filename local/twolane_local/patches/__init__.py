"""What the local layer replaces in other libraries, or uses by a private name: where, and why.

Nothing at run time reads this. The replacements stand in the modules that need them, as each lives
in a process of its own (moto's child, a test, a function) and is undone with it. A test looks each
place up in the installed versions and compares its shape with the one that was tested; another
fails for a private name that is not listed.
"""

from __future__ import annotations

import re
from importlib import metadata
from typing import TYPE_CHECKING

from twolane.patches.catalogue import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The versions that the replacements were tested with: from the first, up to, not with, the second.
TESTED: dict[str, tuple[str, str]] = {
    "awslambdaric": ("4.0", "5"),
    "fakeredis": ("2.40", "3"),
    "kombu": ("5.4", "5.8"),
    "moto": ("5.1", "5.3"),
    "redis": ("4.5", "9"),
}


def untested(version: Callable[[str], str] = metadata.version) -> Iterator[str]:
    """A sentence for each library whose version is not one of the tested ones."""
    for library, (first, end) in TESTED.items():
        try:
            found = version(library)
        except metadata.PackageNotFoundError:
            continue  # the command that needs it names it
        if not _release(first) <= _release(found) < _release(end):
            yield (
                f"{library} {found} is not a version that twolane was tested with: it replaces "
                f"parts of it that may have changed. Install {library}>={first},<{end}"
            )


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


ENTRIES = (
    Entry(
        "DynamoDB, one request at a time",
        "twolane_local.aws.moto.dynamodb",
        "moto checks a condition and writes in two steps, and restores whole tables when one fails",
        (
            "moto.dynamodb.responses:DynamoHandler.call_action",
            "moto.dynamodb.models:DynamoDBBackend.create_table",
            "moto.dynamodb.models:DynamoDBBackend.delete_table",
            "moto.dynamodb.models:DynamoDBBackend.update_table",
            "moto.dynamodb.models:DynamoDBBackend.update_time_to_live",
            "moto.dynamodb.models:DynamoDBBackend.transact_write_items",
            "moto.dynamodb.models:DynamoDBBackend.execute_transaction",
            "moto.dynamodb.comparisons:get_filter_expression",
        ),
    ),
    Entry(
        "moto without Flask",
        "twolane_local.aws.moto.imports",
        "moto serves on werkzeug; of Flask, five packages, it takes a table of paths",
        (
            "moto.moto_server.werkzeug_app:create_backend_app",
            "moto.moto_server.werkzeug_app:DomainDispatcherApplication.__init__",
            "moto.core.utils:convert_to_flask_response.__call__",
        ),
    ),
    Entry(
        "moto's CloudFormation without a validator of OpenAPI",
        "twolane_local.aws.moto.imports",
        "moto imports it, eight packages, for two calls that few templates lead to",
        ("moto.apigateway.models:{validate,OpenAPIValidationError}",),
    ),
    Entry(
        "SNS to the emulator",
        "twolane_local.aws.moto.notifications",
        "moto delivers to its own queues and functions, which are not the emulator's",
        (
            "moto.sns.models:Subscription.publish",
            "moto.sns.models:SNSBackend._validate_filter_policy",
            "moto.sns.models:Subscription.__init__ self._filter_policy",
        ),
    ),
    Entry(
        "EventBridge to the emulator",
        "twolane_local.aws.moto.notifications",
        "moto's rules match less than AWS's, and send to its own queues and functions",
        (
            "moto.events.models:Rule.send_to_targets",
            "moto.events.models:EventPatternParser._validate_event_pattern",
            "moto.events.models:EventPattern.load",
        ),
    ),
    Entry(
        "S3's notifications to the emulator",
        "twolane_local.aws.moto.notifications",
        "moto sends its events to its own queues, functions, topics and buses",
        (
            "moto.s3.notifications:_get_s3_event",
            "moto.s3.notifications:_invoke_awslambda",
            "moto.s3.notifications:_send_sqs_message",
            "moto.s3.notifications:_send_sns_message",
            "moto.s3.notifications:_send_event_bridge_message",
            "moto.s3.models:S3Backend.delete_object",
        ),
    ),
    Entry(
        "queues that moto's CloudFormation makes",
        "twolane_local.aws.moto.notifications",
        "what moto sends to a queue of its own goes to the emulator's queue of that name",
        ("moto.sqs.models:SQSBackend.send_message", "moto.sqs.models:Queue.physical_resource_id"),
    ),
    Entry(
        "one resource that moto stumbles over",
        "twolane_local.aws.moto.child",
        "moto gives up the whole stack for one resource that it cannot make",
        ("moto.cloudformation.parsing:parse_and_create_resource",),
    ),
    Entry(
        "moto's mocks without its patterns",
        "twolane_local.testing.mocked_aws",
        "moto compiles a thousand patterns for each test anew, a third of a small test's set-up",
        (
            "moto.core.models:backend_index",
            "moto.core.models:responses_mock._registry",
            "moto.core.models:responses_mock._registry._registered",
            "moto.core.base_backend:AccountSpecificBackend._generate_regions",
            "moto.core.base_backend:BaseBackend.urls",
            "moto.core.base_backend:uuid4",
            "moto.core.responses:method_names_from_class",
        ),
    ),
    Entry(
        "a message as kombu's virtual channel takes it",
        "twolane_local.journal.messages",
        "the SQS body of a task has to be the one that kombu writes, and kombu offers no encoder",
        (
            "kombu.transport.virtual.base:Channel._get",
            "kombu.transport.virtual.base:Channel._delete",
        ),
    ),
    Entry(
        "commands to the embedded store without a wire",
        "twolane_local.testing.stores",
        "redis-py packs each command for fakeredis to take it apart again, a third of its cost",
        (
            "fakeredis:FakeRedisConnection.__init__ self._server",
            "fakeredis._socket._base:BaseFakeSocket._process_command",
            "fakeredis._socket._base:BaseFakeSocket.__init__ self._killed",
            "redis.connection:AbstractConnection.__init__ self._sock",
        ),
    ),
    Entry(
        "an application of its own for each test",
        "twolane_local.testing.application_code",
        "Celery offers the tasks of each application to each later one in the process",
        ("celery._state:_on_app_finalizers", "celery._state:default_app"),
    ),
    Entry(
        "logging before the application is imported",
        "twolane_local.aws.lambda_.child",
        "the fork server imports the application, which the runtime client sets up logging before",
        (
            "awslambdaric.bootstrap:{_setup_logging,create_log_sink}",
            "awslambdaric.bootstrap:{_AWS_LAMBDA_LOG_FORMAT,_AWS_LAMBDA_LOG_LEVEL}",
        ),
    ),
    Entry(
        "the points inside a task",
        "twolane_local.testing.task_points",
        "a fault strikes before or after a task's own code, and Celery keeps that in one place",
        ("celery.app.autoretry:add_autoretry_behaviour task._orig_run",),
    ),
)
