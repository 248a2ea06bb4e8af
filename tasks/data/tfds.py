"""The order in which TensorFlow Datasets (TFDS) stores a data set, on which VTAB's splits depend.

TFDS writes the examples of a part sorted by the md5 of the part's name followed by the example's
key, and train[:90%] is the beginning of that. This follows its public code (hashing.py, shuffle.py
of version 3 and newer); it was not compared with a copy that TFDS has written.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

from tasks.data.readers import Examples


def stored_order(keys: Iterable[str | int], part: str = "train") -> np.ndarray:
    """Return the positions of the examples with these keys in the order of TFDS, int64 [N]."""
    salted = hashlib.md5(part.encode(), usedforsecurity=False)

    def digest(key: str | int) -> bytes:
        own = salted.copy()
        own.update(str(key).encode())
        return own.digest()

    digests = [digest(key) for key in keys]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), dtype=np.int64)


def cut(examples: Examples, keys: Iterable[str | int], *percents: int) -> list[Examples]:
    """Divide examples at percents of TFDS's order: at 90, into the first 90 % and the rest."""
    order = stored_order(keys)
    ends = [round(len(order) * percent / 100) for percent in percents]
    return [examples.take(part) for part in np.split(order, ends)]
