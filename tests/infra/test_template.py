"""What the template promises, on its expanded form: every parameter's way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from app.settings import Settings
from twolane.worker.limits import deadline_of

from .combinations import LONG_LANE, WATCHED
from .conftest import Expanded, built, expanded

ROLES = {"ApiFunction": "ApiRole", "WorkerFunction": "WorkerRole", "BeatFunction": "BeatRole"}
#: X-Ray's actions know no resource, nor do those that attach a function to a network.
MANAGED = {"AWSXRayDaemonWriteAccess", "AWSLambdaENIManagementAccess"}
EVERYTHING = {**LONG_LANE, **WATCHED, "WithRedis": "true"}


@pytest.fixture(scope="module")
def plain() -> Expanded:
    return expanded()


def functions(template: Expanded) -> dict[str, dict[str, Any]]:
    return dict(template.of_type("AWS::Lambda::Function"))


def test_runtime_and_architecture_are_parameters() -> None:
    chosen = functions(expanded(Runtime="python3.12", Architecture="arm64"))
    assert {each["Runtime"] for each in chosen.values()} == {"python3.12"}
    assert [each["Architectures"] for each in chosen.values()] == [["arm64"]] * 3


def test_one_artifact_serves_all_functions(plain: Expanded) -> None:
    assert len({json.dumps(each["Code"]) for each in functions(plain).values()}) == 1


@pytest.mark.parametrize(
    ("asked", "applied", "called"),
    [("false", "None", "ApiFunction"), ("true", "PublishedVersions", "ApiFunction:live")],
)
def test_snapshots_of_published_versions_by_condition(
    asked: str, applied: str, called: str
) -> None:
    template = expanded(SnapStart=asked)
    assert functions(template)["ApiFunction"]["SnapStart"] == {"ApplyOn": applied}
    assert "SnapStart" not in functions(template)["WorkerFunction"]
    # Requests go to the version with the snapshot, and without one never to an old version.
    ((_, api),) = template.of_type("AWS::ApiGatewayV2::Api")
    (path,) = api["Body"]["paths"].values()
    uri = path["x-amazon-apigateway-any-method"]["x-amazon-apigateway-integration"]["uri"]
    assert uri.endswith(f":function:{called}/invocations")


def test_concurrency_fits_the_mapping() -> None:
    template = expanded(WorkerConcurrency="7", ReserveConcurrency="true")
    ((_, mapping),) = template.of_type("AWS::Lambda::EventSourceMapping")
    worker = functions(template)["WorkerFunction"]
    # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html: reserved concurrency
    # is to be at least the maximum concurrency, or messages come back throttled.
    reserved = int(worker["ReservedConcurrentExecutions"])
    assert reserved >= int(mapping["ScalingConfig"]["MaximumConcurrency"]) == 7


def test_queues_keep_and_hide_messages_for_long_enough(plain: Expanded) -> None:
    queue, dead = plain.properties("TaskQueue"), plain.properties("TaskDeadLetterQueue")
    worker = functions(plain)["WorkerFunction"]
    assert queue["VisibilityTimeout"] >= 6 * worker["Timeout"]
    assert queue["RedrivePolicy"]["maxReceiveCount"] >= 5
    assert dead["MessageRetentionPeriod"] > queue["MessageRetentionPeriod"]


@dataclass
class Invocation:
    """Lambda's context at the start of an invocation, as far as a deadline needs it."""

    timeout_s: float

    def get_remaining_time_in_millis(self) -> int:
        return int(self.timeout_s * 1000)


def test_a_batch_of_the_longest_tasks_fits_into_its_invocation(plain: Expanded) -> None:
    # What finds no time left goes back unstarted, and has lost a receive of five.
    worker = functions(plain)["WorkerFunction"]
    ((_, mapping),) = plain.of_type("AWS::Lambda::EventSourceMapping")
    limit = float(worker["Environment"]["Variables"]["TASK_TIME_LIMIT"])
    now = 0.0
    deadline = deadline_of(Invocation(worker["Timeout"]), monotonic=lambda: now)
    assert deadline is not None
    for _ in range(mapping["BatchSize"]):
        assert not deadline.too_late_to_start
        now += limit
        assert now <= deadline.soft


def test_each_task_is_limited_as_the_template_says(plain: Expanded) -> None:
    variables = functions(plain)["WorkerFunction"]["Environment"]["Variables"]
    settings = Settings.model_validate({"TASK_TIME_LIMIT": variables["TASK_TIME_LIMIT"]})
    conf = settings.celery()
    assert (conf["task_soft_time_limit"], conf["task_time_limit"]) == (25, 30)
    assert "task_time_limit" not in Settings().celery()


def test_what_rests_is_encrypted(plain: Expanded) -> None:
    for _, queue in plain.of_type("AWS::SQS::Queue"):
        assert queue["SqsManagedSseEnabled"] is True
    for _, table in plain.of_type("AWS::DynamoDB::Table"):
        assert table["SSESpecification"] == {"SSEEnabled": True}
    for _, bucket in plain.of_type("AWS::S3::Bucket"):
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}


@pytest.mark.parametrize(
    ("kind", "held", "target"),
    [
        ("AWS::SQS::QueuePolicy", "AWS::SQS::Queue", "Queues"),
        ("AWS::S3::BucketPolicy", "AWS::S3::Bucket", "Bucket"),
    ],
)
def test_nobody_comes_without_tls(kind: str, held: str, target: str) -> None:
    template = expanded(**EVERYTHING)
    told = set()
    for _, policy in template.of_type(kind):
        (statement,) = policy["PolicyDocument"]["Statement"]
        assert statement["Effect"] == "Deny"
        assert statement["Principal"] == "*"
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        told |= set(policy[target] if isinstance(policy[target], list) else [policy[target]])
    assert told == {template.names.ref(name) for name, _ in template.of_type(held)}


def test_log_groups_have_a_retention_and_functions_their_own(plain: Expanded) -> None:
    groups = dict(plain.of_type("AWS::Logs::LogGroup"))
    assert {group["RetentionInDays"] for group in groups.values()} == {"30"}
    named = {each["LoggingConfig"]["LogGroup"] for each in functions(plain).values()}
    assert named == {f"local-{name}" for name in ("ApiLogs", "WorkerLogs", "BeatLogs")}


def test_functions_are_traced(plain: Expanded) -> None:
    for each in functions(plain).values():
        assert each["TracingConfig"] == {"Mode": "Active"}


def test_the_api_is_throttled_and_its_log_names_no_secret(plain: Expanded) -> None:
    ((_, stage),) = plain.of_type("AWS::ApiGatewayV2::Stage")
    assert stage["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": 200,
        "ThrottlingBurstLimit": 400,
    }
    log = stage["AccessLogSettings"]
    assert log["DestinationArn"].endswith(":log-group:/aws/vendedlogs/apis/local")
    fields = json.loads(log["Format"])
    assert {"requestId", "status", "path", "latencyMs", "authorizerError"} <= set(fields)
    assert not [name for name in fields if "query" in name.lower() or "header" in name.lower()]


def test_a_token_is_asked_for_by_parameter() -> None:
    open_stack, _ = built()
    assert [route.authorizer for route in open_stack.routes] == [None]
    guarded, _ = built(JwtIssuer="https://issuer.example", JwtAudience="shop,office")
    (route,) = guarded.routes
    assert route.authorizer["type"] == "jwt"
    assert route.authorizer["jwtConfiguration"] == {
        "issuer": "https://issuer.example",
        "audience": ["shop", "office"],
    }


def test_each_function_has_a_role_of_its_own(plain: Expanded) -> None:
    roles = {name: each["Role"] for name, each in functions(plain).items()}
    arn = "arn:aws:iam::123456789012:role/local-"
    assert roles == {name: f"{arn}{role}" for name, role in ROLES.items()}


@pytest.mark.parametrize("parameters", [{}, EVERYTHING], ids=["plain", "everything"])
def test_no_role_may_do_anything_to_everything(parameters: dict[str, str]) -> None:
    template = expanded(**parameters)
    for name, role in template.of_type("AWS::IAM::Role"):
        for statement in template.allowed(name):
            assert "*" not in statement.action
            assert statement.resource.count("*") <= 1
            assert statement.resource.startswith("arn:aws:")
        for arn in role.get("ManagedPolicyArns", ()):
            policy = arn.rpartition("/")[2]
            assert policy in MANAGED | {"AmazonECSTaskExecutionRolePolicy"}, policy
    for name, _ in template.of_type("AWS::IAM::ManagedPolicy"):
        raise AssertionError(f"{name} is shared by roles")


def test_services_take_their_roles_for_this_account_only(plain: Expanded) -> None:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html
    for name, role in plain.of_type("AWS::IAM::Role"):
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        if statement["Principal"] != {"Service": "lambda.amazonaws.com"}:
            account = {"StringEquals": {"aws:SourceAccount": "123456789012"}}
            assert statement["Condition"] == account, name


def test_with_redis_no_function_may_use_the_table() -> None:
    template = expanded(RedisUrl="rediss://elsewhere:6379/0")
    for role in ROLES.values():
        assert not [one for one in template.allowed(role) if one.action.startswith("dynamodb:")]


def test_without_a_boundary_no_role_has_one(plain: Expanded) -> None:
    for _, role in plain.of_type("AWS::IAM::Role"):
        assert "PermissionsBoundary" not in role


def test_nothing_of_infra_is_there_unless_asked_for(plain: Expanded) -> None:
    kinds = {resource["Type"].split("::")[1] for resource in plain.loaded.resources.values()}
    assert not kinds & {"EC2", "ECS", "ElastiCache", "CloudWatch", "SNS", "CloudFormation"}
