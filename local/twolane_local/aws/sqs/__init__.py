"""twolane_local.aws.sqs"""
