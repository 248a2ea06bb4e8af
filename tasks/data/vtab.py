"""Readers of VTAB's data sets, from torchvision, the hub or an address.

The paper reads them through TFDS; results/paper/vtab_splits.csv has its splits. Each reader takes a
task's `data:` block and the folder of data, as those of tasks/data/readers.py do.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tasks.data.blocks import required
from tasks.data.cache import cached_arrays, content_key
from tasks.data.digest import digest_of
from tasks.data.hub import copy_of, tables
from tasks.data.images import Images, rgb
from tasks.data.local_copies import (
    file_copy,
    file_examples,
    folders_in,
    labels,
    torchvision_copy,
    whole,
)
from tasks.data.readers import DataSet, Examples, numbers
from tasks.data.specs import DataSpec
from tasks.data.tfds import cut

# From torchvision


def cifar100(data: DataSpec, data_dir: Path) -> DataSet:
    """CIFAR-100, uint8 [N, 32, 32, 3]; the first 90 % of TFDS's order train, the rest validates."""
    parts, _, origin = torchvision_copy(data, data_dir, True, False)
    official, test = (Examples(part.data, labels(part.targets)) for part in parts)
    train, validation = cut(official, range(len(official)), 90)
    return DataSet(train, test, tuple(parts[0].classes), validation, origin)


def svhn(data: DataSpec, data_dir: Path) -> DataSet:
    """SVHN's cropped digits, uint8 [N, 32, 32, 3]; divided as CIFAR-100."""
    parts, _, origin = torchvision_copy(data, data_dir, "train", "test")
    official, test = (
        Examples(np.ascontiguousarray(part.data.transpose(0, 2, 3, 1)), labels(part.labels))
        for part in parts
    )
    train, validation = cut(official, range(len(official)), 90)
    return DataSet(train, test, tuple(map(str, range(10))), validation, origin)


def official_parts(data: DataSpec, data_dir: Path) -> DataSet:
    """A data set in its official parts: describable textures (of fold 1), Oxford's 102 flowers."""
    parts, root, origin = torchvision_copy(data, data_dir, "train", "val", "test")
    train, validation, test = (
        file_examples(root, _below(root, part._image_files), part._labels) for part in parts
    )
    return DataSet(train, test, tuple(parts[0].classes), validation, origin)


def pets(data: DataSpec, data_dir: Path) -> DataSet:
    """Oxford-IIIT pets' breeds; the first 80 % of TFDS's order train, the rest validates."""
    parts, root, origin = torchvision_copy(data, data_dir, "trainval", "test")
    official, test = (
        file_examples(root, _below(root, part._images), part._labels) for part in parts
    )
    train, validation = cut(official, [file.name for file in parts[0]._images], 80)
    return DataSet(train, test, tuple(parts[0].classes), validation, origin)


def _below(root: Path, files: Sequence[Path]) -> list[str]:
    return [file.relative_to(root).as_posix() for file in files]


CALTECH_TRAIN = 30  # images a class
CALTECH_SEED = 1234  # TFDS's


def caltech101(data: DataSpec, data_dir: Path) -> DataSet:
    """Caltech-101 with its background class: 30 random images a class train, the rest test.

    The draw is TFDS's, except that TFDS draws in the order in which its file system lists folders
    and files, and this in that of their names. Of the 30, 90 % in TFDS's order train.
    """
    _, root, origin = torchvision_copy(data, data_dir, "category")
    folder = root / "caltech101" / "101_ObjectCategories"
    classes = folders_in(folder)
    random = np.random.RandomState(CALTECH_SEED)
    chosen: list[tuple[str, int]] = []
    rest: list[tuple[str, int]] = []
    for label, name in enumerate(classes):
        files = sorted(file.name for file in (folder / name).glob("*.jpg"))
        if len(files) < CALTECH_TRAIN:
            with whole(data, root, "Caltech101"):
                raise ValueError(f"{name} has fewer than {CALTECH_TRAIN} images")
        drawn = set(random.choice(files, CALTECH_TRAIN, replace=False).tolist())
        for file in files:
            (chosen if file in drawn else rest).append((f"{name}/{file}", label))
    official, test = (
        file_examples(folder, [name for name, _ in part], [label for _, label in part])
        for part in (chosen, rest)
    )
    train, validation = cut(official, [name for name, _ in chosen], 90)
    return DataSet(train, test, classes, validation, origin)


DISTANCES = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)  # VTAB's thresholds


def clevr_dist(data: DataSpec, data_dir: Path) -> DataSet:
    """CLEVR, how near the nearest object is; the official validation part tests."""
    _, root, origin = torchvision_copy(data, data_dir, "val")
    folder = root / "clevr" / "CLEVR_v1.0"
    with whole(data, folder, "CLEVR"):
        (official, names), (test, _) = (_clevr_part(folder, part) for part in ("train", "val"))
    train, validation = cut(official, names, 90)
    classes = tuple(f"{low:g} to {high:g}" for low, high in pairwise(DISTANCES))
    return DataSet(train, test, classes, validation, origin)


def _clevr_part(folder: Path, part: str) -> tuple[Examples, list[str]]:
    scenes = json.loads((folder / "scenes" / f"CLEVR_{part}_scenes.json").read_text())["scenes"]
    classes = {scene["image_filename"]: distance_class(scene) for scene in scenes}
    names = sorted(classes)
    images = [f"images/{part}/{name}" for name in names]
    return file_examples(folder, images, [classes[name] for name in names]), names


def distance_class(scene: Mapping[str, Any]) -> int:
    """Return CLEVR-Dist's class: the last threshold that the nearest object's depth is above."""
    nearest = min(np.float32(thing["pixel_coords"][2]) for thing in scene["objects"])
    return int(np.searchsorted(DISTANCES, nearest)) - 1


# From the hub


def hub_images(data: DataSpec, data_dir: Path) -> DataSet:
    """A hub data set with official parts; its columns are `image`, of any sizes, and `label`."""
    from datasets import ClassLabel, Image
    from pyarrow.compute import struct_field

    hub, folder = required(data.hub, "task.data.hub"), copy_of(data, data_dir).folder
    parts, found = tables(data, data_dir), {}
    with whole(data, folder, f"{hub.repository} with images and classes"):
        label = parts["train"].features["label"]
        if not isinstance(label, ClassLabel):
            raise ValueError("its labels have no names")
        classes = tuple(label.names)
        for part, table in parts.items():
            files = sorted(folder.glob(hub.files[part]))
            table = table.cast_column("image", Image(decode=False))
            if absent := struct_field(table.data.column("image"), "bytes").null_count:
                raise ValueError(f"{absent} images of {part} are missing")
            sizes = [[file.name, file.stat().st_size] for file in files]
            decode, identity = partial(_row_image, table, sizes), partial(_numbered, sizes)
            images = Images(range(len(table)), decode, identity)
            found[part] = Examples(images, numbers(table["label"][:], np.int64))
    return DataSet(found["train"], found["test"], classes, found["validation"])


def _row_image(table: Any, files: list[Any], row: int) -> np.ndarray:
    return rgb(BytesIO(table[row]["image"]["bytes"]), f"image {row} of {files}")


def _numbered(source: Any, rows: Sequence[int]) -> list[Any]:
    """Return what identifies images by their numbers in a source."""
    return [source, list(rows)]


# From an address


ORIENTATIONS, ORIENTATION_CLASSES = 40, 16


def dsprites_ori(data: DataSpec, data_dir: Path) -> DataSet:
    """dSprites, a sprite's orientation; 80, 10 and 10 % in TFDS's order."""
    path, origin = file_copy(data, data_dir)
    digest = digest_of(path, ["*"], data_dir, data.path_key)
    folder = data_dir / "decoded" / f"dsprites-{content_key([1, digest])[:16]}"
    arrays = cached_arrays(folder, partial(_unpacked_sprites, data, path), "unpack dSprites")
    bits = arrays["bits"]
    images = Images(range(len(bits)), partial(_sprite, bits), partial(_numbered, digest))
    every = Examples(images, orientation_class(arrays["orientation"]))
    train, validation, test = cut(every, range(len(every)), 80, 90)
    return DataSet(train, test, tuple(map(str, range(ORIENTATION_CLASSES))), validation, origin)


def orientation_class(orientation: np.ndarray) -> np.ndarray:
    """Return VTAB's 16 classes of the 40 orientations: neighbours go together."""
    return labels(orientation * ORIENTATION_CLASSES // ORIENTATIONS)


def _unpacked_sprites(data: DataSpec, path: Path) -> dict[str, np.ndarray]:
    """Eight pixels to a byte: 0.4 GB in place of 3."""
    promised = sum(data.examples.values())
    with whole(data, path, "dSprites"), np.load(path) as arrays:
        images, classes = arrays["imgs"], arrays["latents_classes"]
        if images.shape != (promised, 64, 64) or classes.shape != (promised, 6):
            raise ValueError(f"the yaml promises {promised} images, there are {len(images)}")
    bits = np.packbits(images.reshape(len(images), -1), axis=1)
    return {"bits": bits, "orientation": classes[:, 3].astype(np.int64)}


def _sprite(bits: np.ndarray, row: int) -> np.ndarray:
    return np.unpackbits(bits[row]).reshape(64, 64, 1) * np.uint8(255)
