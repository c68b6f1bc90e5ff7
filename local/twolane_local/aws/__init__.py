"""twolane_local.aws"""
