"""twolane_local.http"""
