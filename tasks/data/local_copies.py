"""Copies of data sets: downloaded once through torchvision or from an address, or put there."""

import errno
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from tasks.data.blocks import required
from tasks.data.cache import content_key, made_once
from tasks.data.images import image_files
from tasks.data.readers import Examples, local_path
from tasks.data.specs import DataSpec
from tasks.data.storage import fetching, translate_os_errors
from tasks.errors import UserError, reason

# What the libraries raise for files that are broken, and the system's numbers for absent ones.
BROKEN = (RuntimeError, OSError, ValueError, LookupError, EOFError, BadZipFile, zlib.error)
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)


def fetched_folder(data: DataSpec, data_dir: Path) -> Path:
    """Where a data set of torchvision's, or of an address, is or will be."""
    if data.torchvision:
        return data_dir / "torchvision" / data.torchvision
    url = required(data.url, "task.data.url")
    key = content_key([url, data.md5])[:16]
    return data_dir / "addresses" / f"{Path(url).stem}-{key}"


def torchvision_copy(
    data: DataSpec, data_dir: Path, *parts: str | bool
) -> tuple[list[Any], Path, str]:
    """Return parts of torchvision's data set, the folder that it is in, and where it is from.

    A part is what the class takes beside the folder. Raises UserError if the data set cannot be
    downloaded, which is done once, or if the copy at data.path is not whole.
    """
    from torchvision import datasets

    path, name = local_path(data), required(data.torchvision, "task.data.torchvision")

    def build(root: Path, download: bool) -> list[Any]:
        return [getattr(datasets, name)(root, part, download=download) for part in parts]

    root = path or fetched_folder(data, data_dir)
    if path is None:
        get = partial(_download, data, partial(build, download=True))
        made_once(root, get, f"download {name}")
    with whole(data, root, f"{name} as torchvision lays it out ({data.layout})"):
        return build(root, False), root, "local copy" if path else f"torchvision.datasets.{name}"


def file_copy(data: DataSpec, data_dir: Path) -> tuple[Path, str]:
    """Return the file that is at data.url, and where it is from; data.path may be its folder.

    What is fetched must have the checksum data.md5.
    """
    path, url = local_path(data), required(data.url, "task.data.url")
    name = Path(url).name
    if path is not None:
        path = path / name if path.is_dir() else path
        if not path.is_file():
            raise UserError(f"no file {path}: put it there, or leave {data.path_key} out to fetch")
        return path, "local copy"
    target = fetched_folder(data, data_dir)
    made_once(target, partial(_download, data, partial(_pinned_file, data)), f"download {name}")
    return target / name, url


def folder_by_hand(data: DataSpec, data_dir: Path, inside: str = "") -> Path:
    """Return the folder `inside` the one that the user was asked to fill."""
    folder = local_path(data) or data.manual_folder(data_dir)
    if not (folder / inside).is_dir():
        raise UserError(f"{data.manual} into {folder}, or say {data.path_key}=FOLDER")
    return folder / inside


@contextmanager
def whole(data: DataSpec, where: Path, what: str) -> Iterator[None]:
    """Turn what libraries say of a copy with missing or broken files into a UserError.

    What was fetched may be deleted; what the user has put there is for the user to mend.
    """
    own = data.path or data.manual
    fetched = "delete it, which was fetched, and run the same command again"
    remedy = "give a whole copy" if own else fetched
    with translate_os_errors(where):
        try:
            yield
        except BROKEN as error:
            if isinstance(error, OSError) and error.errno not in (None, *ABSENT):
                raise  # no fault of the copy: a file that may not be read
            raise UserError(
                f"{where} holds no whole copy of {what} ({reason(error)}): {remedy}"
            ) from error


def file_examples(root: Path, names: Sequence[str], classes: Any) -> Examples:
    """Return the images in files below `root`, with their labels."""
    return Examples(image_files(root, names), labels(classes))


def class_files(folder: Path, classes: Sequence[str], suffix: str) -> tuple[list[str], list[int]]:
    """Return the files in the folders of classes, sorted, and their labels."""
    files = [sorted((folder / name).glob(f"*{suffix}")) for name in classes]
    names = [f"{path.parent.name}/{path.name}" for paths in files for path in paths]
    return names, [label for label, paths in enumerate(files) for _ in paths]


def folders_in(folder: Path) -> tuple[str, ...]:
    """Return the names of the folders in a folder, sorted."""
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))


def labels(values: Any) -> np.ndarray:
    """Return labels as all tasks have them, int64 [N]."""
    return np.array(values, dtype=np.int64)


def _pinned_file(data: DataSpec, folder: Path) -> None:
    from torchvision.datasets.utils import calculate_md5, download_url

    url = required(data.url, "task.data.url")
    download_url(url, folder)
    got = calculate_md5(folder / Path(url).name)
    if got != data.md5:
        raise ValueError(f"its md5 is {got}, and the yaml pins {data.md5}: nothing was kept")


def _download(data: DataSpec, get: Callable[[Path], Any], folder: Path) -> None:
    print(f"downloading {data.title} (licence: {data.licence})", file=sys.stderr)
    remedy = f"check the network, or say {data.path_key}=FOLDER with a copy ({data.layout})"
    with fetching(data.title, remedy):
        get(folder)
