"""Every place where something of Celery's, kombu's, Starlette's … is replaced."""
