"""twolane_local.aws.events"""
