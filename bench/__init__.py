"""What the service costs: every scene runs against a floor, the same upstream and one worker each. `python -m bench`."""
