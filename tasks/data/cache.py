"""Name data by its content, and keep arrays that were costly to compute under such a name."""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tasks.data.images import Images
from tasks.data.storage import (
    locked,
    put_in_place,
    seal,
    sealed_metadata,
    staging_folder,
    translate_os_errors,
)
from tasks.errors import UserError

Values = np.ndarray | Sequence[str]


def sha256_of(values: Values) -> str:
    """sha256 of an array's bytes, or of texts (UTF-8, each after its length and a colon)."""
    if isinstance(values, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()
    digest = hashlib.sha256()
    for text in values:
        encoded = text.encode()
        # The length keeps ["ab", "c"] apart from ["a", "bc"].
        digest.update(f"{len(encoded)}:".encode())
        digest.update(encoded)
    return digest.hexdigest()


def fingerprint(*parts: Values | Images) -> str:
    """sha256 of several arrays or lists of texts: their kinds, shapes and contents, in order.

    Images that are decoded when asked for count with what identifies their files.
    """
    return content_key([_described(part) for part in parts])


def _described(part: Values | Images) -> list[Any]:
    if isinstance(part, Images):
        return ["images", [len(part)], part.identity()]
    if isinstance(part, np.ndarray):
        return [str(part.dtype), list(part.shape), sha256_of(part)]
    return ["texts", [len(part)], sha256_of(part)]


def content_key(content: Any) -> str:
    """sha256 of what json can hold: the name under which a result of it is kept."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def versions(*packages: str) -> dict[str, str | None]:
    """The installed versions of packages: a part of the key of what they compute."""
    return {name: installed_version(name) for name in packages}


@cache
def installed_version(package: str) -> str | None:
    """The version that was installed when it was first asked for: it is parsed from a long text."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cached_arrays(
    folder: Path, build: Callable[[], dict[str, np.ndarray]], purpose: str
) -> dict[str, np.ndarray]:
    """The arrays kept in `folder`, mapped into memory; built first if absent.

    The folder's name must say all that the arrays depend on (see `content_key`). A damaged folder
    is built anew. `purpose` completes "another process has begun to ...". Raises UserError if the
    folder cannot be written.
    """

    def write(target: Path) -> None:
        for name, array in build().items():
            np.save(target / f"{name}.npy", array)

    return cached_files(folder, write, purpose)


def cached_files(
    folder: Path, write: Callable[[Path], None], purpose: str
) -> dict[str, np.ndarray]:
    """As `cached_arrays`, for arrays too large to be held: `write` makes NAME.npy in the folder."""
    made_once(folder, write, purpose)
    try:
        # Copy on write: torch wants memory that may be written, the files stay as they are.
        return {path.stem: np.load(path, mmap_mode="c") for path in folder.glob("*.npy")}
    except ValueError as error:
        raise UserError(f"{folder} is damaged ({error}): delete it and run again") from error


def made_once(folder: Path, write: Callable[[Path], Any], purpose: str) -> dict[str, Any]:
    """Let `write` fill the folder, unless it is there and whole; it appears by one rename.

    Return what `write` returned, if that was a dict, when the folder was filled.
    """
    with translate_os_errors(folder.parent):
        metadata = sealed_metadata(folder)
        if metadata is None:
            with locked(folder, purpose):
                metadata = sealed_metadata(folder)
                if metadata is None:
                    with staging_folder(folder) as staging:
                        finished = staging / "finished"
                        finished.mkdir()
                        metadata = write(finished) or {}
                        seal(finished, **metadata)
                        put_in_place(finished, folder)
    return metadata
