"""Turns the records of runs into tables and figures; needs neither torch nor the network."""
