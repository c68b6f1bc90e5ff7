"""A deployed stack, read through boto3."""
