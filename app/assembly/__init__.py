"""Groups of parts, put together for the container and the command line."""
