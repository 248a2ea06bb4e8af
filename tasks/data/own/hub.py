"""A data set of the Hugging Face hub by its name: its tables, fetched once into a folder."""

import re
from functools import cache
from pathlib import Path

from tasks.data.hub import copy_of
from tasks.data.own.images import part_of
from tasks.data.own.tables import SUFFIXES, suffix_of
from tasks.data.specs import DataSpec
from tasks.data.storage import fetching
from tasks.errors import UserError

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(/[\w.-]+)*", re.ASCII)


def is_name(path: str) -> bool:
    """Return whether a path that is not there can be the name of a data set of the hub."""
    looks_so = NAME.fullmatch(path) is not None and suffix_of(Path(path)) not in SUFFIXES
    return looks_so and not Path(path.split("/")[0]).exists()


def hub_copy(name: str, data_dir: Path) -> Path:
    """Return the folder with a data set's tables, fetched first if they are not here yet.

    Args:
        name: owner/name, or owner/name/configuration.
        data_dir: the folder of data and weights.

    Raises:
        UserError: if the hub does not have it, or has several configurations.
    """
    owner, repository, *config = name.split("/")
    repository = f"{owner}/{repository}"
    todo = "correct the name, check the network, or give the path of a file or folder"
    with fetching(f"{name} is no file or folder here, and as a data set of the hub it", todo):
        files = _files_of(repository)
    tables = [file for file in files if suffix_of(Path(file)) in SUFFIXES]
    # What else there is, such as README's tables of numbers, is no data beside Parquet files.
    tables = [file for file in tables if file.endswith(".parquet")] or tables
    below = "/".join(config)
    tables = [file for file in tables if file.startswith(f"{below}/" if below else "")]
    if not tables:
        raise UserError(
            f"{name}: the hub has no table there (.parquet, .csv, .tsv, .jsonl): "
            f"it has {', '.join(files[:5])}"
        )
    tops = sorted({file.split("/")[0] for file in tables if "/" in file})
    if not below and len(tops) > 1 and not any(map(part_of, tops)):
        raise UserError(f"{name} has several data sets: say {name}/NAME, one of {', '.join(tops)}")
    hub = {"repository": repository, "revision": None, "licence": "see its page at the hub"}
    block = {"reader": "own", "citation": repository, "examples": {}}
    spec = DataSpec.parse({**block, "hub": {**hub, "files": {file: file for file in tables}}})
    return copy_of(spec, data_dir).folder / below


@cache  # a sweep asks for each of its cells
def _files_of(repository: str) -> list[str]:
    from huggingface_hub import HfApi, constants, snapshot_download

    if not constants.HF_HUB_OFFLINE:
        # Of all that asks the hub, this answers at once where there is none.
        siblings = HfApi().dataset_info(repository).siblings or []
        return sorted(file.rfilename for file in siblings)
    folder = Path(snapshot_download(repository, repo_type="dataset", local_files_only=True))
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
