import greeting  # `sam build` installed it beside the handler


def handler(event, context):
    return {"statusCode": 200, "body": greeting.TEXT}
