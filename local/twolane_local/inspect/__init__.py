"""What the commands show and change, of a running emulator or of a deployed stack."""
