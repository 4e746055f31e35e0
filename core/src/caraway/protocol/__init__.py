"""Celery's wire formats as pure functions over values: no I/O, no clock, no settings."""
