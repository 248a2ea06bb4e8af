"""A user's own data: found, checked, divided and described."""
