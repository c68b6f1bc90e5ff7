"""``alembic upgrade`` as a function: ``twolane invoke Migrate --running``."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config


def handler(event: dict[str, Any], context: object) -> dict[str, str]:
    revision = event.get("revision", "head")
    config = Config(Path(__file__).with_name("alembic.ini"))
    if revision == "base":
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)
    return {"revision": revision}
