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
from tasks.data.images import Images, image_files, rgb
from tasks.data.local_copies import (
    file_copy,
    file_examples,
    folders_in,
    labels,
    name_and_size,
    torchvision_copy,
    whole,
)
from tasks.data.readers import DataSet, Examples, numbers
from tasks.data.specs import DataSpec
from tasks.data.tfds import cut

# From torchvision


def cifar100(data: DataSpec, data_dir: Path) -> DataSet:
    """CIFAR-100, uint8 [N, 32, 32, 3]; the first 90 % of TFDS's order train, the rest validates."""
    from torchvision.datasets import CIFAR100

    parts, _, origin = torchvision_copy(
        data, data_dir, lambda root, get: [CIFAR100(root, train, download=get) for train in (1, 0)]
    )
    official, test = (Examples(part.data, labels(part.targets)) for part in parts)
    train, validation = cut(official, range(len(official)), 90)
    return DataSet(train, test, tuple(parts[0].classes), validation, origin)


def svhn(data: DataSpec, data_dir: Path) -> DataSet:
    """SVHN's cropped digits, uint8 [N, 32, 32, 3]; divided as CIFAR-100."""
    from torchvision.datasets import SVHN

    parts, _, origin = torchvision_copy(
        data,
        data_dir,
        lambda root, get: [SVHN(root, part, download=get) for part in ("train", "test")],
    )
    official, test = (
        Examples(np.ascontiguousarray(part.data.transpose(0, 2, 3, 1)), labels(part.labels))
        for part in parts
    )
    train, validation = cut(official, range(len(official)), 90)
    return DataSet(train, test, tuple(map(str, range(10))), validation, origin)


def dtd(data: DataSpec, data_dir: Path) -> DataSet:
    """Describable textures: the official parts of fold 1."""
    from torchvision.datasets import DTD

    return _official(data, data_dir, DTD)


def flowers102(data: DataSpec, data_dir: Path) -> DataSet:
    """Oxford's 102 flowers: the official parts."""
    from torchvision.datasets import Flowers102

    return _official(data, data_dir, Flowers102)


def _official(data: DataSpec, data_dir: Path, kind: Any) -> DataSet:
    parts, root, origin = torchvision_copy(
        data,
        data_dir,
        lambda root, get: [kind(root, part, download=get) for part in ("train", "val", "test")],
    )
    train, validation, test = (
        file_examples(root, part._image_files, part._labels) for part in parts
    )
    return DataSet(train, test, tuple(parts[0].classes), validation, origin)


def pets(data: DataSpec, data_dir: Path) -> DataSet:
    """Oxford-IIIT pets' breeds; the first 80 % of TFDS's order train, the rest validates."""
    from torchvision.datasets import OxfordIIITPet

    parts, root, origin = torchvision_copy(
        data,
        data_dir,
        lambda root, get: [OxfordIIITPet(root, p, download=get) for p in ("trainval", "test")],
    )
    official, test = (file_examples(root, part._images, part._labels) for part in parts)
    train, validation = cut(official, [file.name for file in parts[0]._images], 80)
    return DataSet(train, test, tuple(parts[0].classes), validation, origin)


CALTECH_TRAIN = 30  # images a class
CALTECH_SEED = 1234  # TFDS's


def caltech101(data: DataSpec, data_dir: Path) -> DataSet:
    """Caltech-101 with its background class: 30 random images a class train, the rest test.

    The draw is TFDS's, except that TFDS draws in the order in which its file system lists folders
    and files, and this in that of their names. Of the 30, 90 % in TFDS's order train.
    """
    from torchvision.datasets import Caltech101

    _, root, origin = torchvision_copy(
        data, data_dir, lambda root, get: Caltech101(root, download=get)
    )
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
        Examples(image_files(folder, [name for name, _ in part]), labels([n for _, n in part]))
        for part in (chosen, rest)
    )
    train, validation = cut(official, [name for name, _ in chosen], 90)
    return DataSet(train, test, classes, validation, origin)


DISTANCES = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)  # VTAB's thresholds


def clevr_dist(data: DataSpec, data_dir: Path) -> DataSet:
    """CLEVR, how near the nearest object is; the official validation part tests."""
    from torchvision.datasets import CLEVRClassification

    _, root, origin = torchvision_copy(
        data, data_dir, lambda root, get: CLEVRClassification(root, "val", download=get)
    )
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
    images = image_files(folder, [f"images/{part}/{name}" for name in names])
    return Examples(images, labels([classes[name] for name in names])), names


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
            rows = _Rows(table, [name_and_size(file) for file in files])
            images = Images(range(len(table)), rows, rows.describe)
            found[part] = Examples(images, numbers(table["label"][:], np.int64))
    return DataSet(found["train"], found["test"], classes, found["validation"])


class _Rows:
    def __init__(self, table: Any, files: list[Any]) -> None:
        self.table, self.files = table, files

    def __call__(self, row: int) -> np.ndarray:
        return rgb(BytesIO(self.table[row]["image"]["bytes"]), f"image {row} of {self.files}")

    def describe(self, rows: Sequence[int]) -> Any:
        return [self.files, list(rows)]


# From an address


ORIENTATIONS, ORIENTATION_CLASSES = 40, 16


def dsprites_ori(data: DataSpec, data_dir: Path) -> DataSet:
    """dSprites, a sprite's orientation; 80, 10 and 10 % in TFDS's order."""
    path, origin = file_copy(data, data_dir)
    digest = digest_of(path, ["*"], data_dir, data.path_key)
    folder = data_dir / "decoded" / f"dsprites-{content_key([1, digest])[:16]}"
    arrays = cached_arrays(folder, partial(_unpacked_sprites, data, path), "unpack dSprites")
    sprites = _Sprites(arrays["bits"], digest)
    every = Examples(
        Images(range(len(arrays["bits"])), sprites, sprites.describe),
        orientation_class(arrays["orientation"]),
    )
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


class _Sprites:
    def __init__(self, bits: np.ndarray, digest: str) -> None:
        self.bits, self.digest = bits, digest

    def __call__(self, row: int) -> np.ndarray:
        return np.unpackbits(self.bits[row]).reshape(64, 64, 1) * np.uint8(255)

    def describe(self, rows: Sequence[int]) -> Any:
        return [self.digest, list(rows)]
