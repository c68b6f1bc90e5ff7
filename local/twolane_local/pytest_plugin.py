"""The pytest plugin. It must cost nothing where it is not asked for: no import at the top."""
