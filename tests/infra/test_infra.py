"""What infra/ adds: it fits the template, says what it is, and measures what the runtime tells."""

from __future__ import annotations

import json
import re
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws

from twolane.environment import logs as metrics
from twolane_local.template.yaml import read_template

from .conftest import ROOT, built, expanded
from .test_template import EVERYTHING

NESTED = ("redis", "long-lane", "alarms", "dashboard")
WITHOUT_SWITCH = ("network", "schedules")  # the one comes with the long lane, the other is made
#: What Lambda, SQS and API Gateway tell CloudWatch of themselves:
#: https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
#: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-metrics.html
OF_AWS = {
    "AWS/Lambda": {
        "ConcurrentExecutions",
        "Errors",
        "Invocations",
        "RecursiveInvocationsDropped",
        "Throttles",
    },
    "AWS/SQS": {
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesDelayed",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesVisible",
    },
    "AWS/ApiGateway": {"4xx", "5xx", "Count", "IntegrationLatency", "Latency"},
}
DIMENSION = {"AWS/Lambda": "FunctionName", "AWS/SQS": "QueueName", "AWS/ApiGateway": "ApiId"}


def told(namespace: str) -> set[str]:
    if namespace == "twolane":
        return set(metrics.COUNTERS.values()) | set(metrics.DURATIONS.values())
    return OF_AWS[namespace]


def of_alarms() -> list[dict[str, Any]]:
    """Every metric of every alarm, with its single dimension."""
    found = []
    for name, alarm in expanded(**EVERYTHING).of_type("AWS::CloudWatch::Alarm"):
        stats = [each["MetricStat"]["Metric"] for each in alarm.get("Metrics", ()) if
                 "MetricStat" in each]  # fmt: skip
        for metric in stats or [alarm]:
            (dimension,) = metric["Dimensions"]
            found.append({"alarm": name, **metric, "Dimension": dimension})
    return found


@pytest.mark.parametrize("name", NESTED)
def test_each_is_off_by_default_and_says_when_to_take_it(name: str) -> None:
    path = ROOT / "infra" / f"{name}.yaml"
    text = path.read_text()
    comment = text[: text.index("AWSTemplateFormatVersion")]
    (switch,) = re.findall(r"# template\.yaml nests it where (With[A-Za-z]+) is \"true\"", comment)
    parameter = read_template(ROOT / "template.yaml").content["Parameters"][switch]
    assert (parameter["Default"], parameter["AllowedValues"]) == ("false", ["false", "true"])
    deploying = (ROOT / "docs" / "deploying.md").read_text()
    assert f"`{switch}=true`" in deploying
    assert f"infra/{name}.yaml" in deploying


@pytest.mark.parametrize("name", NESTED + WITHOUT_SWITCH)
def test_the_template_gives_each_what_it_asks_for(name: str) -> None:
    content = read_template(ROOT / "template.yaml").content
    (nested,) = [
        resource["Properties"]
        for resource in content["Resources"].values()
        if resource.get("Properties", {}).get("TemplateURL") == f"infra/{name}.yaml"
    ]
    declared = read_template(ROOT / "infra" / f"{name}.yaml").content.get("Parameters") or {}
    given = set(nested.get("Parameters", {}))
    assert given <= set(declared)
    assert {key for key, value in declared.items() if "Default" not in value} <= given


def test_alarms_are_on_metrics_that_are_told() -> None:
    alarms = of_alarms()
    for each in alarms:
        assert each["MetricName"] in told(each["Namespace"]), each
        expected = DIMENSION.get(each["Namespace"], "functionName")
        assert each["Dimension"]["Name"] == expected, each
    watched = {(each["MetricName"], each["Dimension"]["Value"]) for each in alarms}
    assert {
        ("ApproximateAgeOfOldestMessage", "local-TaskQueue"),
        ("ApproximateNumberOfMessagesVisible", "local-TaskDeadLetterQueue"),
        ("ApproximateNumberOfMessagesVisible", "local-LongLaneDeadLetters"),
        ("Errors", "ApiFunction"),
        ("Errors", "WorkerFunction"),
        ("Errors", "BeatFunction"),
        ("Throttles", "WorkerFunction"),
        ("RecursiveInvocationsDropped", "WorkerFunction"),
        ("InlineLost", "ApiFunction"),
    } <= watched


def test_a_lost_piece_of_inline_work_is_what_its_alarm_watches() -> None:
    environ = {"AWS_LAMBDA_FUNCTION_NAME": "ApiFunction"}
    line = metrics.embedded({"event": "inline.lost"}, environ, now_ms=0)
    (about,) = line["_aws"]["CloudWatchMetrics"]
    (alarm,) = [each for each in of_alarms() if each["MetricName"] == "InlineLost"]
    assert alarm["Namespace"] == about["Namespace"]
    assert [alarm["Dimension"]["Name"]] in about["Dimensions"]
    assert line[alarm["Dimension"]["Name"]] == alarm["Dimension"]["Value"]
    assert line[alarm["MetricName"]] == 1


def test_every_alarm_tells_the_topic_or_scales() -> None:
    template = expanded(**EVERYTHING)
    for name, alarm in template.of_type("AWS::CloudWatch::Alarm"):
        (action,) = alarm["AlarmActions"]
        scales = name in {"LongLaneWorkWaits", "LongLaneNothingToDo"}
        assert action.startswith("arn:aws:application-autoscaling:" if scales else "arn:aws:sns:")
        assert ("LongLane" in action) == scales, name


def test_the_dashboard_shows_metrics_that_are_told() -> None:
    ((_, dashboard),) = expanded(**EVERYTHING).of_type("AWS::CloudWatch::Dashboard")
    body = json.loads(dashboard["DashboardBody"])
    shown = [metric for widget in body["widgets"] for metric in widget["properties"]["metrics"]]
    assert len(shown) > 20
    for namespace, name, dimension, value, *_ in shown:
        assert name in told(namespace), name
        assert dimension == DIMENSION.get(namespace, "functionName")
        assert "${" not in value
    places = [(widget["x"], widget["y"]) for widget in body["widgets"]]
    assert len(places) == len(set(places))


def test_the_emulator_names_what_it_does_not_play() -> None:
    made, notes = built(**EVERYTHING)
    assert {spec.name for spec in made.queues} >= {"local-LongLaneQueue", "local-TaskQueue"}
    text = "\n".join(notes)
    for kind in ("AWS::ElastiCache::ServerlessCache", "AWS::ECS::Service", "AWS::EC2::VPC"):
        assert f"{kind} is unknown to the emulator" in text
    _, plain = built()
    assert plain == []


def test_functions_are_in_the_network_of_their_redis_only() -> None:
    for _, function in expanded(**EVERYTHING).of_type("AWS::Lambda::Function"):
        (group,) = function["VpcConfig"]["SecurityGroupIds"]
        assert "RedisFunctionsGroup" in group
        subnets = function["VpcConfig"]["SubnetIds"]
        assert len(subnets) == 2
        assert "RedisFirstSubnet" in subnets[0]
        assert "RedisSecondSubnet" in subnets[1]
        url = function["Environment"]["Variables"]["RESULT_BACKEND"]
        assert re.fullmatch(r"rediss://.+/0\?ssl_cert_reqs=required", url)
        assert function["Environment"]["Variables"]["RESULT_KEY_PREFIX"] == "{twolane}:"
    for parameters in ({}, {**EVERYTHING, "RedisUrl": "redis://elsewhere:6379/0"}):
        template = expanded(**parameters)
        assert not [
            name for name, each in template.of_type("AWS::Lambda::Function") if "VpcConfig" in each
        ]


@mock_aws
@pytest.mark.filterwarnings("ignore:Tried to parse .* not supported by moto")
@pytest.mark.parametrize(
    "name",
    ["alarms", "dashboard", "redis", "long-lane", "network", "schedules", "pipeline/role"],
)
def test_moto_creates_each_as_it_is(name: str) -> None:
    # What moto does not know it leaves out with a warning; what it knows has to be right.
    # It knows no Fn::Cidr, and puts nothing out of what it left out.
    text = re.sub(
        r"!Select \[(\d), !Cidr .*\]\]",
        lambda match: f"10.{71 + (name == 'network')}.{16 * int(match[1])}.0/20",
        (ROOT / "infra" / f"{name}.yaml").read_text().partition("\nOutputs:")[0],
    )
    declared = read_template(ROOT / "infra" / f"{name}.yaml").content.get("Parameters") or {}
    # Nor does it take an entry out of a list for AWS::NoValue.
    given = {
        "Repository": "owner/name", "Email": "someone@example.com",
        "Mailer": "ses", "SenderAddress": "a@example.com", "ResultsTableArn": "arn:aws:x:::table",
    }  # fmt: skip
    client = boto3.client("cloudformation", region_name="us-east-1")
    client.create_stack(
        StackName="s",
        TemplateBody=text,
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[
            {"ParameterKey": key, "ParameterValue": given.get(key, f"arn:aws:x:::{key}")}
            for key, value in declared.items()
            if "Default" not in value or key in given
        ],
    )
    (stack,) = client.describe_stacks(StackName="s")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    made = client.describe_stack_resources(StackName="s")["StackResources"]
    assert made


def test_the_pipelines_roles_name_what_they_may_touch() -> None:
    content = read_template(ROOT / "infra" / "pipeline" / "role.yaml").content
    documents = [
        policy["PolicyDocument"]
        for resource in content["Resources"].values()
        if resource["Type"].startswith("AWS::IAM::")
        for policy in [*resource["Properties"].get("Policies", ()), resource["Properties"]]
        if "PolicyDocument" in policy
    ]
    bare = []
    for statement in (each for document in documents for each in document["Statement"]):
        actions = statement["Action"]
        assert "*" not in "".join([actions] if isinstance(actions, str) else actions)
        if statement["Resource"] == "*":
            assert statement["Sid"] == "KnowNoResource"
            bare += actions
    # For these alone IAM has no resource; anything else here would be a mistake.
    assert sorted(bare) == [
        "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ecr:GetAuthorizationToken",
        "logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DescribeResourcePolicies",
        "logs:GetLogDelivery", "logs:ListLogDeliveries", "logs:PutResourcePolicy",
        "logs:UpdateLogDelivery", "xray:PutTelemetryRecords", "xray:PutTraceSegments",
    ]  # fmt: skip
    trust = content["Resources"]["DeployRole"]["Properties"]["AssumeRolePolicyDocument"]
    (statement,) = trust["Statement"]
    subject = statement["Condition"]["StringEquals"]["token.actions.githubusercontent.com:sub"]
    assert subject == {"Fn::Sub": "repo:${Repository}:environment:${Environment}"}


def test_the_workflow_pins_what_it_runs_and_asks_for_little() -> None:
    text = (ROOT / "infra" / "pipeline" / "deploy.yml").read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", each) for each in used)
    deploy = workflow["jobs"]["deploy"]
    assert deploy["needs"] == "test"
    assert deploy["permissions"] == {"contents": "read", "id-token": "write"}
    steps = [step.get("run", step.get("uses", "")) for step in deploy["steps"]]
    credentials = next(i for i, step in enumerate(steps) if "configure-aws-credentials" in step)
    assert [step for step in steps[:credentials] if step.startswith("make build")]
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"run: make ([a-z-]+)", text):
        assert f"\n{target}:" in makefile
    parameters = read_template(ROOT / "template.yaml").content["Parameters"]
    for name in re.findall(r"\b([A-Z][a-z][A-Za-z]+)=", text):
        assert name in parameters
    outputs = read_template(ROOT / "infra" / "pipeline" / "role.yaml").content["Outputs"]
    assert set(outputs) == {"DeployRoleArn", "ExecutionRoleArn", "ArtifactsBucket", "BoundaryArn"}
