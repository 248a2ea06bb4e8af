"""Data and weights of the Hugging Face hub, or a local copy of the same files."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import UserError
from tasks.images import Images, rgb


def hub_file(weights: Mapping[str, Any], data_dir: Path) -> tuple[Path, str]:
    """Return the file of a model's `weights:` block, and where it is from.

    It is the user's own copy at ``path``, else ``file`` of the hub's ``repository`` at ``revision``
    (null: the newest), which is kept under data_dir. Raises UserError if it cannot be had.
    """
    if weights.get("path"):
        path = Path(weights["path"]).expanduser()
        if not path.is_file():
            raise UserError(f"model.weights.path={path} is no file: correct it, or leave it out")
        return path, "local copy"
    from huggingface_hub import hf_hub_download

    repository, name = weights["repository"], weights["file"]
    try:
        found = hf_hub_download(
            repository, name, revision=weights["revision"], cache_dir=data_dir / "hub"
        )
    except Exception as error:  # the client raises almost anything
        raise UserError(
            f"{name} of the hub's {repository} cannot be fetched ({first_line(error)}): go online, "
            f"or put that file anywhere and say model.weights.path=FILE"
        ) from error
    # The client's cache names a file's folder after the commit that it is from.
    return Path(found), f"hf-hub:{repository}@{Path(found).parent.name}"


def weights_fingerprints(weights: Mapping[str, Any] | None, data_dir: Path) -> dict[str, str]:
    """Return what a record says of pretrained weights: a sha256, and where they are from."""
    if not weights:
        return {"weights": "random"}
    if "source" in weights:
        return {"weights": weights["source"]["sha256"]}
    path, origin = hub_file(weights, data_dir)
    return {"weights": _sha256_of_file(path, path.stat().st_mtime_ns), "weights_origin": origin}


@cache
def _sha256_of_file(path: Path, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def image_parts(
    data: Mapping[str, Any], data_dir: Path, parts: Sequence[str]
) -> tuple[dict[str, tuple[Images, np.ndarray]], tuple[str, ...], str]:
    """Return images and labels of parts of a hub data set, the classes' names and its origin.

    ``data`` names the hub's ``repository`` of parquet files and its ``revision`` (null: the
    newest), or the ``path`` of a local copy of its files. Its columns are ``image`` and ``label``.
    Raises UserError if it cannot be had.
    """
    import datasets

    loaded = load_hub(data, data_dir)
    missing = [part for part in parts if part not in loaded]
    if missing:
        raise UserError(f"{data['repository']} has no part {missing[0]}: give a whole copy")
    identity, origin = _identity(data, loaded[parts[0]])
    examples = {}
    for part in parts:
        table = loaded[part].cast_column("image", datasets.Image(decode=False))
        rows = _Rows(table, [identity, part])
        labels = np.array(table["label"][:], dtype=np.int64)
        examples[part] = Images(range(len(table)), rows, rows.describe), labels
    return examples, tuple(loaded[parts[0]].features["label"].names), origin


def load_hub(data: Mapping[str, Any], data_dir: Path, config: str | None = None) -> Any:
    """Return the hub's data set, or the one in the folder data.path, as `datasets` loads it."""
    import datasets

    where = data["repository"]
    options: dict[str, Any] = {"revision": data["revision"]}
    if data.get("path"):
        where, options = str(Path(data["path"]).expanduser()), {}
        if not Path(where).is_dir():
            raise UserError(f"task.data.path={where} is no folder: correct it, or leave it out")
    try:
        return datasets.load_dataset(where, config, cache_dir=str(data_dir / "hub"), **options)
    except Exception as error:  # the client raises almost anything
        raise UserError(
            f"the data set {where} cannot be loaded ({first_line(error)}): go online, or put a "
            f"copy of the hub's {data['repository']} anywhere and say task.data.path=FOLDER"
        ) from error


def first_line(error: Exception) -> str:
    """Return what an error says, as part of a line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class _Rows:
    """Decodes images of a table, and tells which rows of which part of which copy they are."""

    def __init__(self, table: Any, identity: Any) -> None:
        self.table, self.identity = table, identity

    def __call__(self, row: int) -> np.ndarray:
        return rgb(io.BytesIO(self.table[row]["image"]["bytes"]), f"image {row} of the data set")

    def describe(self, rows: Sequence[int]) -> Any:
        return [self.identity, list(rows)]


def _identity(data: Mapping[str, Any], table: Any) -> tuple[Any, str]:
    """Return what identifies a loaded copy, and its origin in words."""
    if data.get("path"):
        files = sorted(Path(data["path"]).expanduser().rglob("*.parquet"))
        return [[file.name, file.stat().st_size] for file in files], "local copy"
    # The client's cache names a data set's folder after the commit that it is from.
    commit = Path(table.cache_files[0]["filename"]).parent.name
    origin = f"hf-hub:{data['repository']}@{commit}"
    return origin, origin
