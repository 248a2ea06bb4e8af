"""Compare DoG with tuned optimizers on your data: python compare.py data=photos"""

from runner import cli
from sweeps import compare

if __name__ == "__main__":
    cli.main(compare.main)
