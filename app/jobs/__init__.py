"""Work that is done beside requests."""
