"""The SQS event source mapping: a queue's messages to a function, in batches."""
