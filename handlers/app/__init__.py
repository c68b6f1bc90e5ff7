"""A small notification service that uses both lanes: the application to run first, and replace."""

# Before all else: it keeps the garbage collector from looking through what the others import.
import twolane  # noqa: F401
