"""twolane_local.aws.lambda_"""
