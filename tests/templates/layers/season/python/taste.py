TASTE = "season"
