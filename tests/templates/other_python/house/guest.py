import json
import sys

import boto3


def visit(event, context):
    queues = boto3.client("sqs").list_queues().get("QueueUrls", [])
    return {"statusCode": 200, "body": json.dumps([list(sys.version_info[:2]), queues])}
