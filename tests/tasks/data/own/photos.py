"""Small photographs to write: colours tell the classes, noise tells the images."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"cat": (200, 40, 40), "dog": (40, 200, 40), "owl": (40, 40, 200)}
SUFFIXES = ("jpg", "png", "webp")


def photo(kind: str, number: int, size=(20, 16), mode="RGB") -> Image.Image:
    """An image of a class, another one for each number."""
    noise = np.random.RandomState(number).randint(-30, 30, (size[1], size[0], 3))
    pixels = np.clip(np.array(COLOURS[kind]) + noise, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def write_photos(folder: Path, each=12, first=0) -> Path:
    """Write so many images of each class, of several sizes and formats; return the folder."""
    for place, kind in enumerate(COLOURS):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + each):
            size = (16 + number % 5, 16 + number % 3)
            image = photo(kind, 1000 * place + number, size)
            image.save(folder / kind / f"{number}.{SUFFIXES[number % 3]}")
    return folder


def encoded(image: Image.Image, form="png") -> bytes:
    """An image as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()
