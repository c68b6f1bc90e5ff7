"""A small notification service that uses both lanes: the application to run first, and replace."""
