"""twolane_local.checks"""
