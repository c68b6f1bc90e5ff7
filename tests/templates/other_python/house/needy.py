import sys

import fastapi


def visit(event, context):
    return [list(sys.version_info[:2]), fastapi.__name__]
