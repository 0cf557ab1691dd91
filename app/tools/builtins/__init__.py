"""Tools that the service brings along."""
