"""The shapes of AWS's events and responses, as pure functions."""
