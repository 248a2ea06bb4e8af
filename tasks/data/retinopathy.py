"""Photographs of the eye's background, prepared as the winner of Kaggle's competition did.

TFDS's btgraham-300: the eye gets a radius of 300 pixels, its local average is taken away, and what
is beyond 90 % of the radius becomes grey. TFDS does so with OpenCV, this with torchvision, which
rounds otherwise in places: images differ by a level or two from TFDS's.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from tasks.data.cache import content_key, versions
from tasks.data.images import rgb
from tasks.data.storage import translate_os_errors

# Of what is prepared: a new number makes the images anew. Raise FEATURES_VERSION of probes with it.
VERSION = 1
RADIUS = 300  # of the eye, in pixels
KEPT = 0.9  # part of the radius
QUALITY = 72  # of the JPEG


class Fundus:
    """Decodes a photograph; it is prepared and written to `prepared` when first asked for.

    Another original, or other versions of the libraries that prepare it: it is prepared anew.
    """

    def __init__(self, originals: Path, prepared: Path) -> None:
        self.originals, self.prepared = originals, prepared
        self.versions = versions("torch", "torchvision", "pillow")

    def __call__(self, name: str) -> np.ndarray:
        with translate_os_errors(self.prepared):
            file = (self.originals / name).stat()
            # Its content would take long to read: these change when anybody writes to it.
            identity = [file.st_size, file.st_mtime_ns, file.st_ctime_ns, file.st_ino]
            key = content_key([VERSION, self.versions, name, identity])[:16]
            path = (self.prepared / name).with_suffix(f".{key}.jpeg")
            if not path.is_file():
                self._prepare(name, path)
        return rgb(path, str(path))

    def _prepare(self, name: str, path: Path) -> None:
        from PIL import Image

        image = prepared(rgb(self.originals / name, str(self.originals / name)))
        path.parent.mkdir(parents=True, exist_ok=True)
        # Several processes may be at it: each writes its own file, and the last rename stays.
        with TemporaryDirectory(dir=path.parent) as folder:
            written = Path(folder) / path.name
            Image.fromarray(image).save(written, "JPEG", quality=QUALITY)
            written.replace(path)


def prepared(image: np.ndarray) -> np.ndarray:
    """Return a photograph [H, W, 3] as btgraham-300 has it, at most 540 pixels a side."""
    from torchvision.transforms.v2 import functional

    scale = RADIUS / _radius(image)
    size = [max(1, round(side * scale)) for side in image.shape[:2]]
    pixels = torch.from_numpy(image).permute(2, 0, 1).float()
    pixels = functional.resize(pixels, size, antialias=False).round()
    pixels = (4 * (pixels - _blurred(pixels)) + 128).round().clamp(0, 255)
    height, width = pixels.shape[1:]
    radius = int(RADIUS * KEPT)
    rows, columns = torch.arange(height) - height // 2, torch.arange(width) - width // 2
    inside = rows[:, None] ** 2 + columns**2 <= radius**2
    pixels = torch.where(inside, pixels, 128.0)
    top, left = max(height // 2 - radius, 0), max(width // 2 - radius, 0)
    pixels = pixels[:, top : height // 2 + radius, left : width // 2 + radius]
    return pixels.to(torch.uint8).permute(1, 2, 0).numpy()


def _radius(image: np.ndarray) -> float:
    """Half of how much of the middle row is bright; half the height where none is."""
    row = image[image.shape[0] // 2].sum(axis=1, dtype=np.int64)
    radius = float((row > row.mean() / 10).sum()) / 2
    return radius if radius >= 1 else image.shape[0] / 2


def _blurred(pixels: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional

    deviation = RADIUS / 30
    # OpenCV's own kernel for whole numbers; no wider than what can be mirrored at the edge.
    reach = min(round(3 * deviation), min(pixels.shape[1:]) - 1)
    return functional.gaussian_blur(pixels, 2 * reach + 1, deviation).round()
