"""Runs a sweep: python scripts/sweep.py demo [executor=ray] [--dry-run] [key=value ...]"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the suite is not installed

from runner import cli
from sweeps import driver

if __name__ == "__main__":
    cli.main(driver.main)
