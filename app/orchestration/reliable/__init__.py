"""The strategy `reliable`: a planner picks the tool or orchestration, and others go in its place where it fails."""
