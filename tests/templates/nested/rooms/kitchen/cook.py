import os


def cook(event, context):
    return {"statusCode": 200, "body": os.environ["DISH"]}
