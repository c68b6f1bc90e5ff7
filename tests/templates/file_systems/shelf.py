from pathlib import Path


def write(event, context):
    Path("/mnt/books", event["pathParameters"]["name"]).write_text(event["body"])
    return {"mounted": sorted(each.name for each in Path("/mnt").iterdir())}


def read(event, context):
    path = Path("/mnt/shelf/books", event["pathParameters"]["name"])
    return {"text": path.read_text() if path.exists() else None}


def listed(event, context):
    return sorted(each.name for each in Path("/mnt").iterdir())
