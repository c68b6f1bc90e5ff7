"""The light publisher: stock ``task.delay()``, ``apply_async()`` and canvas, without boto3."""

from twolane.publish.install import install

__all__ = ["install"]
