"""EventBridge Scheduler and scheduled rules: expressions, the API, firing and targets."""
