"""The SQS event source mapping: a queue's messages to a function, in batches."""

from twolane_local.aws.event_source_mapping.mapping import Mapping

__all__ = ["Mapping"]
