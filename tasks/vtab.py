"""Readers of the paper's vision data sets, from torchvision, the hub or files that one puts there.

The paper reads VTAB's data sets through TFDS; results/paper/vtab_splits.csv has its splits. Each
reader takes a task's `data:` block and the folder of data, as those of tasks/readers.py do.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tasks.content import cached_arrays, content_key, made_once
from tasks.errors import UserError
from tasks.hub import copy_of, tables
from tasks.images import Images, image_files, rgb
from tasks.readers import DataSet, Examples, local_path
from tasks.retinopathy import Fundus
from tasks.storage import FULL
from tasks.tfds import cut

T = TypeVar("T")
Data = Mapping[str, Any]


# From torchvision


def cifar100(data: Data, data_dir: Path) -> DataSet:
    """CIFAR-100, uint8 [N, 32, 32, 3]; the first 90 % of TFDS's order train, the rest validates."""
    from torchvision.datasets import CIFAR100

    parts, _, origin = _built(
        data, data_dir, lambda root, get: [CIFAR100(root, train, download=get) for train in (1, 0)]
    )
    official, test = (Examples(part.data, _labels(part.targets)) for part in parts)
    train, validation = cut(official, range(len(official)), 90)
    return DataSet(train, test, tuple(parts[0].classes), validation, origin)


def svhn(data: Data, data_dir: Path) -> DataSet:
    """SVHN's cropped digits, uint8 [N, 32, 32, 3]; divided as CIFAR-100."""
    from torchvision.datasets import SVHN

    parts, _, origin = _built(
        data,
        data_dir,
        lambda root, get: [SVHN(root, part, download=get) for part in ("train", "test")],
    )
    official, test = (
        Examples(np.ascontiguousarray(part.data.transpose(0, 2, 3, 1)), _labels(part.labels))
        for part in parts
    )
    train, validation = cut(official, range(len(official)), 90)
    return DataSet(train, test, tuple(map(str, range(10))), validation, origin)


def dtd(data: Data, data_dir: Path) -> DataSet:
    """Describable textures: the official parts of fold 1."""
    from torchvision.datasets import DTD

    return _official(data, data_dir, DTD)


def flowers102(data: Data, data_dir: Path) -> DataSet:
    """Oxford's 102 flowers: the official parts."""
    from torchvision.datasets import Flowers102

    return _official(data, data_dir, Flowers102)


def _official(data: Data, data_dir: Path, kind: Any) -> DataSet:
    parts, root, origin = _built(
        data,
        data_dir,
        lambda root, get: [kind(root, part, download=get) for part in ("train", "val", "test")],
    )
    train, validation, test = (_files(root, part._image_files, part._labels) for part in parts)
    return DataSet(train, test, tuple(parts[0].classes), validation, origin)


def pets(data: Data, data_dir: Path) -> DataSet:
    """Oxford-IIIT pets' breeds; the first 80 % of TFDS's order train, the rest validates."""
    from torchvision.datasets import OxfordIIITPet

    parts, root, origin = _built(
        data,
        data_dir,
        lambda root, get: [OxfordIIITPet(root, p, download=get) for p in ("trainval", "test")],
    )
    official, test = (_files(root, part._images, part._labels) for part in parts)
    train, validation = cut(official, [file.name for file in parts[0]._images], 80)
    return DataSet(train, test, tuple(parts[0].classes), validation, origin)


CALTECH_TRAIN = 30  # images a class
CALTECH_SEED = 1234  # TFDS's


def caltech101(data: Data, data_dir: Path) -> DataSet:
    """Caltech-101 with its background class: 30 random images a class train, the rest test.

    The draw is TFDS's, except that TFDS draws in the order in which its file system lists folders
    and files, and this in that of their names. Of the 30, 90 % in TFDS's order train.
    """
    from torchvision.datasets import Caltech101

    _, root, origin = _built(data, data_dir, lambda root, get: Caltech101(root, download=get))
    folder = root / "caltech101" / "101_ObjectCategories"
    classes = _folders(folder)
    random = np.random.RandomState(CALTECH_SEED)
    chosen: list[tuple[str, int]] = []
    rest: list[tuple[str, int]] = []
    for label, name in enumerate(classes):
        files = sorted(file.name for file in (folder / name).glob("*.jpg"))
        if len(files) < CALTECH_TRAIN:
            raise UserError(f"{folder / name} has fewer than {CALTECH_TRAIN} images: copy it anew")
        drawn = set(random.choice(files, CALTECH_TRAIN, replace=False).tolist())
        for file in files:
            (chosen if file in drawn else rest).append((f"{name}/{file}", label))
    official, test = (
        Examples(image_files(folder, [name for name, _ in part]), _labels([n for _, n in part]))
        for part in (chosen, rest)
    )
    train, validation = cut(official, [name for name, _ in chosen], 90)
    return DataSet(train, test, classes, validation, origin)


DISTANCES = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)  # VTAB's thresholds


def clevr_dist(data: Data, data_dir: Path) -> DataSet:
    """CLEVR, how near the nearest object is; the official validation part tests."""
    from torchvision.datasets import CLEVRClassification

    _, root, origin = _built(
        data, data_dir, lambda root, get: CLEVRClassification(root, "val", download=get)
    )
    folder = root / "clevr" / "CLEVR_v1.0"
    (official, names), (test, _) = (_clevr_part(folder, part) for part in ("train", "val"))
    train, validation = cut(official, names, 90)
    classes = tuple(f"{low:g} to {high:g}" for low, high in pairwise(DISTANCES))
    return DataSet(train, test, classes, validation, origin)


def _clevr_part(folder: Path, part: str) -> tuple[Examples, list[str]]:
    scenes = json.loads((folder / "scenes" / f"CLEVR_{part}_scenes.json").read_text())["scenes"]
    labels = {scene["image_filename"]: distance_class(scene) for scene in scenes}
    names = sorted(labels)
    images = image_files(folder, [f"images/{part}/{name}" for name in names])
    return Examples(images, _labels([labels[name] for name in names])), names


def distance_class(scene: Mapping[str, Any]) -> int:
    """Return CLEVR-Dist's class: the last threshold that the nearest object's depth is above."""
    nearest = min(np.float32(thing["pixel_coords"][2]) for thing in scene["objects"])
    return int(np.searchsorted(DISTANCES, nearest)) - 1


# From the hub


def hub_images(data: Data, data_dir: Path) -> DataSet:
    """A hub data set with official parts; its columns are `image`, of any sizes, and `label`."""
    from datasets import Image

    folder = copy_of(data, "dataset", data_dir).folder
    parts, found = tables(data, data_dir), {}
    try:
        classes = tuple(parts["train"].features["label"].names)
        for part, table in parts.items():
            files = sorted(folder.glob(data["hub"]["files"][part]))
            rows = _Rows(table.cast_column("image", Image(decode=False)), list(map(_facts, files)))
            labels = _labels(table["label"][:])
            found[part] = Examples(Images(range(len(labels)), rows, rows.describe), labels)
    except (LookupError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"the tables in {folder} have no images and classes as {data['hub']['repository']} "
            f"has them ({_reason(error)}): give a whole copy"
        ) from error
    return DataSet(found["train"], found["test"], classes, found["validation"])


class _Rows:
    def __init__(self, table: Any, facts: list[Any]) -> None:
        self.table, self.facts = table, facts

    def __call__(self, row: int) -> np.ndarray:
        return rgb(BytesIO(self.table[row]["image"]["bytes"]), f"image {row} of {self.facts}")

    def describe(self, rows: Sequence[int]) -> Any:
        return [self.facts, list(rows)]


# From an address


ORIENTATIONS, ORIENTATION_CLASSES = 40, 16


def dsprites_ori(data: Data, data_dir: Path) -> DataSet:
    """dSprites, a sprite's orientation; 80, 10 and 10 % in TFDS's order."""
    path, origin = _dsprites_file(data, data_dir)
    folder = data_dir / "decoded" / f"dsprites-{content_key([1, *_facts(path)])[:16]}"
    arrays = cached_arrays(folder, partial(_unpacked_sprites, path), "unpack dSprites")
    sprites = _Sprites(arrays["bits"], _facts(path))
    every = Examples(
        Images(range(len(arrays["bits"])), sprites, sprites.describe),
        orientation_class(arrays["orientation"]),
    )
    train, validation, test = cut(every, range(len(every)), 80, 90)
    return DataSet(train, test, tuple(map(str, range(ORIENTATION_CLASSES))), validation, origin)


def orientation_class(orientation: np.ndarray) -> np.ndarray:
    """Return VTAB's 16 classes of the 40 orientations: neighbours go together."""
    return _labels(orientation * ORIENTATION_CLASSES // ORIENTATIONS)


def _dsprites_file(data: Data, data_dir: Path) -> tuple[Path, str]:
    from torchvision.datasets.utils import download_url

    path, name = local_path(data), Path(data["url"]).name
    if path is not None:
        path = path / name if path.is_dir() else path
        if not path.is_file():
            raise UserError(f"no file {path}: put it there, or leave task.data.path out to fetch")
        return path, "local copy"
    target = data_dir / "addresses" / "dsprites"
    get = partial(download_url, data["url"])
    made_once(target, lambda folder: _download(data, get, folder), "download dSprites")
    return target / name, str(data["url"])


def _unpacked_sprites(path: Path) -> dict[str, np.ndarray]:
    """Eight pixels to a byte: 0.4 GB in place of 3."""
    try:
        with np.load(path) as arrays:
            images, classes = arrays["imgs"], arrays["latents_classes"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is no whole copy of dSprites ({error}): put one there") from error
    bits = np.packbits(images.reshape(len(images), -1), axis=1)
    return {"bits": bits, "orientation": classes[:, 3].astype(np.int64)}


class _Sprites:
    def __init__(self, bits: np.ndarray, facts: list[Any]) -> None:
        self.bits, self.facts = bits, facts

    def __call__(self, row: int) -> np.ndarray:
        return np.unpackbits(self.bits[row]).reshape(64, 64, 1) * np.uint8(255)

    def describe(self, rows: Sequence[int]) -> Any:
        return [self.facts, list(rows)]


# From files that one puts there


def resisc45(data: Data, data_dir: Path) -> DataSet:
    """NWPU-RESISC45; 60, 20 and 20 % in TFDS's order."""
    folder = _by_hand(data, data_dir, "NWPU-RESISC45")
    classes = _folders(folder)
    names = [f"{c}/{f.name}" for c in classes for f in sorted((folder / c).glob("*.jpg"))]
    labels = _labels([classes.index(name.split("/")[0]) for name in names])
    every = Examples(image_files(folder, names), labels)
    train, validation, test = cut(every, [name.replace("/", "_") for name in names], 60, 80)
    return DataSet(train, test, classes, validation, "local copy")


def retinopathy(data: Data, data_dir: Path) -> DataSet:
    """Kaggle's diabetic retinopathy: its public and private tests validate and test.

    Images are prepared as TFDS's btgraham-300, each once, when it is first asked for.
    """
    from pandas import read_csv

    folder = _by_hand(data, data_dir, "train").parent
    try:
        train = read_csv(folder / "trainLabels.csv")
        others = read_csv(folder / "retinopathy_solution.csv")
    except (OSError, ValueError) as error:
        raise UserError(f"{_reason(error)}: {data['manual']} into {folder}") from error
    decode = Fundus(folder, data_dir / "decoded" / "btgraham-300")
    public, private = (others[others.Usage == usage] for usage in ("Public", "Private"))

    def part(name: str, rows: Any) -> Examples:
        images = image_files(folder, [f"{name}/{image}.jpeg" for image in rows.image])
        return Examples(images.decoded_by(decode), _labels(rows.level))

    classes = ("none", "mild", "moderate", "severe", "proliferative")
    parts = part("train", train), part("test", private), part("test", public)
    return DataSet(parts[0], parts[1], classes, parts[2], "local copy")


def imagenet(data: Data, data_dir: Path) -> DataSet:
    """ImageNet (ILSVRC 2012); the official validation part tests, its true test part is secret."""
    from torchvision.datasets import ImageNet

    folder = _by_hand(data, data_dir)
    for part in ("train", "val"):
        if not (folder / part).is_dir():
            try:
                ImageNet(str(folder), part)  # unpacks the archive
            except (RuntimeError, OSError) as error:
                raise UserError(f"{data['manual']} into {folder}: {_reason(error)}") from error
    classes = _folders(folder / "train")
    train, test = (_class_folders(folder, part, classes) for part in ("train", "val"))
    return DataSet(train, test, classes, origin="local copy")


def _class_folders(folder: Path, part: str, classes: Sequence[str]) -> Examples:
    names, labels = [], []
    for label, name in enumerate(classes):
        files = sorted(file.name for file in (folder / part / name).glob("*.JPEG"))
        names += [f"{part}/{name}/{file}" for file in files]
        labels += [label] * len(files)
    return Examples(image_files(folder, names), _labels(labels))


# What they share


def _built(data: Data, data_dir: Path, build: Callable[[Path, bool], T]) -> tuple[T, Path, str]:
    """Return torchvision's data set, the folder that it is in, and where it is from.

    `build` takes that folder and whether to download into it, which is done once.
    """
    path, name = local_path(data), data["torchvision"]
    root = path or data_dir / "torchvision" / name
    if path is None:
        get = partial(_download, data, lambda folder: build(folder, True))
        made_once(root, get, f"download {name}")
    try:
        built = build(root, False)
    except (RuntimeError, OSError, ValueError, LookupError, EOFError) as error:
        raise UserError(
            f"{root} holds no whole copy of {name} as torchvision lays it out "
            f"({_reason(error)}): put one there, or delete it and run again"
        ) from error
    return built, root, "local copy" if path else f"torchvision.datasets.{name}"


def _download(data: Data, get: Callable[[Path], Any], folder: Path) -> None:
    name = data.get("torchvision") or data["url"]
    print(f"downloading {name} (licence: {data['licence']})", file=sys.stderr)
    try:
        get(folder)
    except Exception as error:  # the network's and the archives' errors are of many kinds
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        raise UserError(
            f"{name} cannot be downloaded ({_reason(error)}): go online, or say "
            f"task.data.path=FOLDER with a copy ({data['layout']})"
        ) from error


def _by_hand(data: Data, data_dir: Path, inside: str = "") -> Path:
    """Return the folder `inside` the one that the user was asked to fill."""
    folder = local_path(data) or data_dir / "manual" / data["reader"].rpartition(".")[2]
    if not (folder / inside).is_dir():
        raise UserError(f"{data['manual']} into {folder}, or say task.data.path=FOLDER")
    return folder / inside


def _files(root: Path, files: Sequence[Path], labels: Any) -> Examples:
    names = [file.relative_to(root).as_posix() for file in files]
    return Examples(image_files(root, names), _labels(labels))


def _folders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))


def _labels(values: Any) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _facts(path: Path) -> list[Any]:
    return [path.name, path.stat().st_size]
