TASTE = "salt"
