"""The report as one HTML page: it answers in words, and leads from any number to its runs."""
