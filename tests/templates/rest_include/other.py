"""A picture, and several values of one header."""


def handler(event, context):
    if event["httpMethod"] == "PUT":
        return {"body": str(event["isBase64Encoded"])}
    if event["httpMethod"] == "POST":
        return {"answer": 42}
    return {
        "multiValueHeaders": {"Set-Cookie": ["a=1", "b=2"], "Content-Type": ["image/png"]},
        "body": "iVBORw==",
        "isBase64Encoded": True,
    }
