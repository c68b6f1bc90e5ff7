"""A template as a grown project has it: 60 functions, 40 queues, tables, two APIs, schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FUNCTIONS, QUEUES, TABLES = 60, 40, 5
#: So many functions have one folder of code.
SHARE = 5
QUEUE = "{Type: AWS::SQS::Queue, Properties: {VisibilityTimeout: 60}}"
TABLE = (
    "{Type: AWS::DynamoDB::Table, Properties: {BillingMode: PAY_PER_REQUEST, "
    "AttributeDefinitions: [{AttributeName: id, AttributeType: S}], "
    "KeySchema: [{AttributeName: id, KeyType: HASH}]}}"
)
HANDLER = """\
import json

import boto3

client = boto3.client("sqs")


def handler(event, context):
    return {"statusCode": 200, "body": json.dumps({"name": context.function_name})}
"""


def write(folder: Path) -> Path:
    """The template's path; its code stands beside it."""
    lines = [
        "Transform: AWS::Serverless-2016-10-31",
        "Globals: {Function: {Runtime: python3.13, Timeout: 10, Handler: app.handler}}",
        "Resources:",
    ]
    lines += [f"  Queue{number}: {QUEUE}" for number in range(QUEUES)]
    lines += [f"  Table{number}: {TABLE}" for number in range(TABLES)]
    for number in range(FUNCTIONS):
        code = folder / f"service{number // SHARE}"
        code.mkdir(parents=True, exist_ok=True)
        (code / "app.py").write_text(HANDLER)
        lines += [
            f"  Function{number}:",
            "    Type: AWS::Serverless::Function",
            "    Properties:",
            f"      CodeUri: {code.name}",
            f"      Environment: {{Variables: {{QUEUE_URL: !Ref Queue{number % QUEUES}}}}}",
            f"      Events: {{Event: {_event(number)}}}",
        ]
    path = folder / "template.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _event(number: int) -> str:
    if number < QUEUES:
        return f"{{Type: SQS, Properties: {{Queue: !GetAtt Queue{number}.Arn, BatchSize: 5}}}}"
    if number < FUNCTIONS - 5:
        kind = "HttpApi" if number % 3 else "Api"
        return f"{{Type: {kind}, Properties: {{Path: /{number}, Method: get}}}}"
    return "{Type: Schedule, Properties: {Schedule: rate(1 hour)}}"
