"""Tables, as pages of text and of exact numbers."""
