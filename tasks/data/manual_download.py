"""Readers of data sets that no program may fetch: the user puts their files there.

Each takes a task's `data:` block, whose `manual` says what to do, and the folder of data.
"""

from pathlib import Path
from typing import Any

import numpy as np

from tasks.data.cache import made_once
from tasks.data.digest import digest_of
from tasks.data.images import image_files
from tasks.data.local_copies import (
    class_files,
    file_examples,
    folder_by_hand,
    folders_in,
    whole,
)
from tasks.data.readers import DataSet, Examples, numbers
from tasks.data.retinopathy import Fundus
from tasks.data.specs import DataSpec
from tasks.data.tfds import cut
from tasks.errors import UserError, reason


def resisc45(data: DataSpec, data_dir: Path) -> DataSet:
    """NWPU-RESISC45; 60, 20 and 20 % in TFDS's order."""
    folder = folder_by_hand(data, data_dir, "NWPU-RESISC45")
    classes = folders_in(folder)
    names, numbers = class_files(folder, classes, ".jpg")
    every = file_examples(folder, names, numbers)
    train, validation, test = cut(every, [name.replace("/", "_") for name in names], 60, 80)
    return DataSet(train, test, classes, validation, "local copy")


def retinopathy(data: DataSpec, data_dir: Path) -> DataSet:
    """Kaggle's diabetic retinopathy: its public and private tests validate and test.

    Images are prepared as TFDS's btgraham-300, each once, when it is first asked for.
    """
    from pandas import read_csv

    folder = folder_by_hand(data, data_dir, "train").parent
    decode = Fundus(folder, data_dir / "decoded" / "btgraham-300")

    def part(name: str, rows: Any) -> Examples:
        images = image_files(folder, [f"{name}/{image}.jpeg" for image in rows["image"]], decode)
        return Examples(images, numbers(rows["level"].tolist(), np.int64))

    with whole(data, folder, "Kaggle's files"):
        train = part("train", read_csv(folder / "trainLabels.csv"))
        others = read_csv(folder / "retinopathy_solution.csv")
        validation, test = (
            part("test", others[others["Usage"] == u]) for u in ("Public", "Private")
        )
    classes = ("none", "mild", "moderate", "severe", "proliferative")
    return DataSet(train, test, classes, validation, "local copy")


def imagenet(data: DataSpec, data_dir: Path) -> DataSet:
    """ImageNet (ILSVRC 2012); the official validation part tests, its true test part is secret."""
    folder = folder_by_hand(data, data_dir)
    roots = {part: _root_of_part(folder, part, data, data_dir) for part in ("train", "val")}
    classes = folders_in(roots["train"] / "train")
    train, test = (_part_of_classes(root, part, classes) for part, root in roots.items())
    return DataSet(train, test, classes, origin="local copy")


def _root_of_part(folder: Path, part: str, data: DataSpec, data_dir: Path) -> Path:
    """The folder that a part lies in: the user's, else one with what the user's archive holds.

    The user's own stays as it is: its content names the run.
    """
    if (folder / part).is_dir():
        return folder
    archives = "ILSVRC2012_*"
    digest = digest_of(folder, [archives], data_dir, data.path_key)

    def unpack(target: Path) -> None:
        from torchvision.datasets import ImageNet

        links = [target / archive.name for archive in folder.glob(archives)]
        for link in links:
            link.symlink_to((folder / link.name).resolve())
        try:
            ImageNet(str(target), part)  # unpacks the archive
        except RuntimeError as error:
            said = reason(error).replace(str(target), str(folder))
            raise UserError(f"{data.manual} into {folder}: {said}") from error
        for link in links:
            link.unlink()

    unpacked = data_dir / "unpacked" / f"imagenet-{part}-{digest}"
    made_once(unpacked, unpack, f"unpack ImageNet's {part}")
    return unpacked


def _part_of_classes(root: Path, part: str, classes: tuple[str, ...]) -> Examples:
    names, numbers = class_files(root / part, classes, ".JPEG")
    return file_examples(root, [f"{part}/{name}" for name in names], numbers)
