import json


def handler(event, context):
    print("SEEN", json.dumps({"event": event, "arn": context.invoked_function_arn}))
    return {"statusCode": 200, "body": context.invoked_function_arn}
