"""``manage.py migrate`` as a function: ``twolane invoke Migrate --running``."""

import os

import django
from django.core.management import call_command

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()


def handler(event: dict[str, str], context: object) -> None:
    if "migration" in event:
        call_command("migrate", "orders", event["migration"])
    else:
        call_command("migrate")
