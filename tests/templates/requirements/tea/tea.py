import cinnamon_stick
import cup


def brew(event, context):
    return {"statusCode": 200, "body": f"{cinnamon_stick.NAME} in a {cup.NAME}"}
