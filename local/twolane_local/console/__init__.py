"""The web console and the control API: what the journal and the emulator's public parts tell."""
