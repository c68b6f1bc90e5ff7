import time

time.sleep(10.5)


def walk(event, context):
    return {"statusCode": 200, "body": str(context.get_remaining_time_in_millis())}
