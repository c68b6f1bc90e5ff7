"""Answers with the event that came."""

import json


def handler(event, context):
    return {"body": json.dumps(event)}
