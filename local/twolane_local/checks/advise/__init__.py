"""Advises which lane each piece of work belongs in, from what the journal has measured."""
