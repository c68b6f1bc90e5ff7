"""EventBridge Scheduler and scheduled rules: the API, expressions, schedules and their targets."""
