"""Amazon SQS on this machine: a queue core that stays fast when deep, and the SQS API on it."""
