"""The SQS event source mapping: passes the messages of a queue to a function, in batches."""
