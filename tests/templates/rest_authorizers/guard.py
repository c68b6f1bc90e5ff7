"""An authorizer that does what the caller asks for, and counts its calls."""

CALLS = {"n": 0}


def handler(event, context):
    CALLS["n"] += 1
    word = event.get("authorizationToken") or event["queryStringParameters"]["user"]
    if word == "unauthorized":
        raise Exception("Unauthorized")  # noqa: TRY002 (AWS's pages have it so)
    if word == "raise":
        raise ValueError("broken")
    if word == "nobody":
        return {"policyDocument": {"Statement": []}}
    if word == "none":
        return {"principalId": "x", "policyDocument": {"Statement": []}}
    statement = {
        "Action": "execute-api:Invoke",
        "Effect": "Deny" if word == "deny" else "Allow",
        "Resource": "*/GET/a" if word == "only-a" else "*",
    }
    return {
        "principalId": "me",
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": {"calls": CALLS["n"], "admin": True, "keys": " ".join(sorted(event))},
    }
