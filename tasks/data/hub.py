"""Data and weights of the Hugging Face hub: fetched once at a revision, or read from a copy.

What the hub's own cache has is taken from there. A block `data:` or `weights:` names its repository
under `hub:`; its `path` says where a copy of the repository lies, laid out as on the hub. From
there on both go the same way.
"""

import hashlib
import logging
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tasks.data.blocks import required
from tasks.data.cache import content_key, made_once
from tasks.data.digest import digest_of
from tasks.data.specs import DataSpec, FilesSpec, HubFiles, Kind
from tasks.data.storage import fetching, sealed_metadata
from tasks.errors import UserError, reason


@dataclass(frozen=True)
class Copy:
    """A repository's files on disk, in the hub's own layout."""

    folder: Path
    revision: str  # repository@commit, or "local copy"
    patterns: tuple[str, ...]  # of the files that are wanted

    def weights_sha256(self) -> str:
        """sha256 of the weights; of a single file the one that the hub shows."""
        digest = hashlib.sha256()
        files = {path for pattern in self.patterns for path in self.folder.glob(pattern)}
        # Of a checkpoint of another kind all that is read.
        for path in sorted([p for p in files if p.suffix == ".safetensors"] or files):
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
        return digest.hexdigest()


def copy_of(block: FilesSpec, data_dir: Path) -> Copy:
    """The copy at the block's `path`, else the fetched repository, fetched first if it is absent.

    Raises UserError if files are missing there, or if the hub does not give them.
    """
    if block.path:
        path = Path(block.path).expanduser()
        if path.is_file() and not any(fnmatchcase(path.name, each) for each in block.patterns):
            known = " or ".join(block.patterns)
            raise UserError(f"{block.path_key}={path}: give the folder, or a file named {known}")
        folder = path.parent if path.is_file() else path
        copy = Copy(folder, "local copy", tuple(block.patterns))
    else:
        copy = _fetched(block, data_dir)
    _check(copy.folder, str(copy.folder), block)
    return copy


def tables(data: DataSpec, data_dir: Path) -> dict[str, Any]:
    """The parts (train, test, ...) of a data set of parquet files, each a datasets.Dataset."""
    import datasets
    from pyarrow import ArrowException

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)  # what is wrong is said below, once
    copy = copy_of(data, data_dir)
    folder, patterns = copy.folder, required(data.hub, "task.data.hub").files
    files = {part: sorted(map(str, folder.glob(patterns[part]))) for part in patterns}
    # The library keeps its own tables by the files' names and times, which a copy may share with
    # another one.
    digest = digest_of(folder, copy.patterns, data_dir, data.path_key)
    cache = data_dir / "hub" / "arrow" / content_key([digest, datasets.__version__])[:16]
    try:
        return dict(datasets.load_dataset("parquet", data_files=files, cache_dir=str(cache)))
    except (datasets.exceptions.DatasetGenerationError, ArrowException) as error:
        raise UserError(
            f"the parquet files in {folder} cannot be read ({reason(error.__cause__ or error)}): "
            f"{remedy(data)}"
        ) from error


def fetched_folder(block: FilesSpec, data_dir: Path) -> Path:
    """Where the repository's files are, or will be."""
    hub = _hub(block)
    key = content_key([block.kind, hub.repository, hub.revision, hub.patterns])[:16]
    return data_dir / "hub" / f"{hub.repository.replace('/', '--')}-{key}"


def _hub(block: FilesSpec) -> HubFiles:
    return required(block.hub, block.path_key.replace(".path", ".hub"))


def _fetched(block: FilesSpec, data_dir: Path) -> Copy:
    repository = _hub(block).repository

    def write(folder: Path) -> dict[str, str]:
        revision = f"{repository}@{_get(block, folder)}"
        _check(folder, revision, block)
        return {"revision": revision}

    target = fetched_folder(block, data_dir)
    metadata = made_once(target, write, f"fetch {repository}")
    return Copy(target, metadata["revision"], tuple(block.patterns))


def _get(block: FilesSpec, folder: Path) -> str:
    """Put a repository's wanted files into a folder; return the commit they are from.

    They are those of the hub's own cache (HF_HUB_CACHE) where it has this revision, else
    downloaded. HF_HUB_OFFLINE forbids that; the newest commit is that of the cache, then.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    hub, kind = _hub(block), block.kind
    repository, commit = hub.repository, hub.revision
    offline = constants.HF_HUB_OFFLINE
    todo = f"{'unset it' if offline else 'check the network'}, or {remedy(block)}"
    with fetching(f"the hub's {repository}", todo):
        if commit is None and not offline:
            commit = HfApi().repo_info(repository, repo_type=kind).sha
        snapshot = _cached(hub, kind, commit)
        if snapshot is not None:
            print(f"taking {repository} from {snapshot} (licence: {hub.licence})", file=sys.stderr)
            for file in {f for pattern in hub.patterns for f in snapshot.glob(pattern)}:
                _link(file.resolve(), folder / file.relative_to(snapshot))
            return snapshot.name
        if offline:
            raise FileNotFoundError(
                f"HF_HUB_OFFLINE is set, and the hub's cache {constants.HF_HUB_CACHE} does not "
                f"have the files of revision {commit or 'main'}"
            )
        print(f"fetching {repository} from the hub (licence: {hub.licence})", file=sys.stderr)
        # It answers at once where there is no hub, and turns a branch's name into a commit.
        info: Any = HfApi().repo_info(repository, repo_type=kind, revision=commit)
        commit, wanted = info.sha, hub.wanted
        if hub.patterns != wanted:  # of alternatives one is enough
            names = [file.rfilename for file in info.siblings]
            wanted = sorted({name for pattern in wanted for name in chosen(pattern, names)})
        snapshot_download(
            repository,
            repo_type=kind,
            revision=commit,
            local_dir=folder,
            allow_patterns=wanted,
        )
    return str(commit)


def chosen(pattern: str, names: Sequence[str]) -> list[str]:
    """The names that a pattern with alternatives (`HubFiles`) takes."""
    some = ([n for n in names if fnmatchcase(n, one)] for one in pattern.split("|"))
    return next((found for found in some if found), [])


def _cached(hub: HubFiles, kind: Kind, commit: str | None) -> Path | None:
    """The folder of a commit in the hub's own cache, if all that is wanted is there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = snapshot_download(
            hub.repository,
            repo_type=kind,
            revision=commit or "main",
            allow_patterns=hub.patterns,
            local_files_only=True,
        )
    except LocalEntryNotFoundError:
        return None
    return Path(found) if all(_all_there(Path(found), pattern) for pattern in hub.wanted) else None


def _all_there(folder: Path, pattern: str) -> bool:
    """Whether there are files of a pattern, and of train-00000-of-00003 all three."""
    files = files_of(folder, pattern)
    parts = [re.search(r"-of-(\d+)", file.name) for file in files]
    all_parts = all(part is None or int(part[1]) == len(files) for part in parts)
    return pattern.endswith("|") or (bool(files) and all_parts)


def files_of(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder that a pattern with alternatives (`HubFiles`) takes."""
    some = ([f for f in folder.glob(one) if f.is_file()] for one in pattern.split("|") if one)
    return next((files for files in some if files), [])


def _link(file: Path, target: Path) -> None:
    """Give a file a second name: it takes no room, and stays if the first one goes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(file)
    except OSError:  # on another disk, or another person's
        shutil.copyfile(file, target)


def _check(folder: Path, where: str, block: FilesSpec) -> None:
    for pattern in block.wanted:
        if not pattern.endswith("|") and not files_of(folder, pattern):
            raise UserError(
                f"no file {' or '.join(pattern.split('|'))} in {where}: {remedy(block)}"
            )


def remedy(block: FilesSpec) -> str:
    """What to do where a repository's files cannot be had or are not right."""
    if block.hub is None:
        return f"give a whole copy of {', '.join(block.patterns)}"
    files = ", ".join(pattern.split("|")[0] for pattern in block.hub.wanted)
    return (
        f"copy {files} of the {block.kind} repository {block.hub.repository} to a "
        f"folder, laid out as on the hub, and say {block.path_key}=FOLDER"
    )


def local_revision(block: FilesSpec, data_dir: Path) -> str | None:
    """The repository@commit of the files that were fetched; None if there are none."""
    return (sealed_metadata(fetched_folder(block, data_dir)) or {}).get("revision")
