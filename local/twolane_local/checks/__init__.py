"""Checks of a project before it is deployed: ``lint``, ``doctor`` and ``advise``."""
