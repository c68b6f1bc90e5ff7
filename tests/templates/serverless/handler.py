def hello(event, context):
    return {"statusCode": 200, "body": f"hello from {context.function_name}"}
