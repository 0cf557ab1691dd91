"""What several answers say together: reading, voting, clustering, confidence, and when enough were asked. Pure functions."""
