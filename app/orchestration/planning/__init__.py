"""Planners: what decides which tool or orchestration a request of `reliable` gets."""
