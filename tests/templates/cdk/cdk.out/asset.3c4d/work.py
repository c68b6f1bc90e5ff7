def handler(event, context):
    for record in event["Records"]:
        print("worked on", record["body"])
