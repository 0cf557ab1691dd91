"""The queue of runs that a person is to decide."""
