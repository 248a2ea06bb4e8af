"""Rivals of DoG: optimizers that others published."""
