"""twolane_local.aws.http_api"""
