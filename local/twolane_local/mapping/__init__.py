"""The SQS event source mapping: a queue's messages to a function, in batches."""

from twolane_local.mapping.mapping import Mapping

__all__ = ["Mapping"]
