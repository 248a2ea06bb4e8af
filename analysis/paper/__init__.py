"""The paper's numbers: its tables and figures again, and ours beside them."""
