"""Images that are decoded when they are asked for: data sets of many sizes, larger than memory."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from tasks.errors import UserError


class Images:
    """A sequence of images of any sizes; [i] decodes the i-th, uint8 [H, W, C], C is 1 or 3 (RGB).

    Args:
        items: what `decode` takes, one an image: names of files, numbers of rows.
        decode: returns an item's image.
        describe: returns what tells these items from those of another copy, as json can hold it,
            without decoding any.
    """

    def __init__(
        self,
        items: Sequence[Any],
        decode: Callable[[Any], np.ndarray],
        describe: Callable[[Sequence[Any]], Any],
    ) -> None:
        self.items, self._decode, self._describe = items, decode, describe

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._decode(self.items[index])

    def take(self, indices: np.ndarray) -> "Images":
        """Return the images with these indices, still undecoded."""
        items = [self.items[index] for index in indices.tolist()]
        return Images(items, self._decode, self._describe)

    def identity(self) -> Any:
        """Return what identifies the images: cheap, as nothing is decoded."""
        return self._describe(self.items)


def image_files(
    root: Path, names: Sequence[str], decode: Callable[[str], np.ndarray] | None = None
) -> Images:
    """Return the images in files below `root`; they are identified by their names and sizes."""
    return Images(names, decode or partial(_decoded_file, root), partial(_names_and_sizes, root))


def rgb(file: Path | IO[bytes], name: str) -> np.ndarray:
    """Return an encoded image as uint8 [H, W, 3]; UserError with its name if it is damaged."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{name} is no whole image ({error}): put a whole copy there") from error


# No closures: processes that prepare batches may have to pickle these.


def _decoded_file(root: Path, name: str) -> np.ndarray:
    return rgb(root / name, str(root / name))


def _names_and_sizes(root: Path, names: Sequence[str]) -> list[Any]:
    try:
        return [[name, (root / name).stat().st_size] for name in names]
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read ({error.strerror}): put a whole copy there"
        ) from error
