"""What a project can be told before it is deployed: ``lint``, ``doctor`` and ``advise``."""
