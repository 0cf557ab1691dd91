"""Runs as resources: hosted by a process, logged event by event, read and cancelled from any process."""
