"""What names a run and its problem, and what its data and weights are read from."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # pydantic is imported late (runner/config.py)
    from runner.specs import RunSpec
    from tasks.data.specs import FilesSpec

# Runs that differ in nothing else are compared, if they read the same data.
NOT_PROBLEM = ("opt", "seed", "local_copies")


def run_id(settings: Mapping[str, Any]) -> str:
    """Return the name of the run: task, optimizer and a hash of all settings.

    An option that is null counts as absent, so a new one whose null means the old behaviour
    leaves every existing run its name.
    """
    return f"{settings['task']['name']}-{settings['opt']['name']}-{hash_of(settings)}"


def problem_id(settings: Mapping[str, Any]) -> str:
    """Return a hash of the settings without optimizer, seed and the user's copies of data.

    Runs that share it are comparable, if they have the same :func:`data_id`, too.
    """
    return hash_of({name: settings[name] for name in settings if name not in NOT_PROBLEM})


def data_id(fingerprints: Mapping[str, str]) -> str:
    """Return a hash of what was read: the examples of the three splits, and the weights."""
    return hash_of(
        {name: fingerprints[name] for name in ("train", "validation", "test", "weights")}
    )


def hash_of(value: Any) -> str:
    """Return ten hexadecimal digits that stand for a value that JSON can hold."""
    text = json.dumps(_without_nulls(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def optimizer_of(task: str, run_id: str) -> str:
    """Return the optimizer in a run's id, which is task-optimizer-hash."""
    return run_id.removeprefix(f"{task}-").rpartition("-")[0]


def local_copies(spec: "RunSpec", data_dir: Path) -> dict[str, str]:
    """Return a digest of the data and of the weights, each where the user gives a copy.

    Data of which other columns are read are others.

    Args:
        spec: the run's.
        data_dir: the folder of data and weights.

    Raises:
        UserError: if a copy cannot be read.
    """
    from tasks.data.digest import digest_of

    copies = {}
    for kind, block in blocks(spec).items():
        # Whatever the copy of what is pinned by checksums, what is read must be this.
        copy = None if block.is_pinned else block.copy_of_user(data_dir)
        if copy is not None:
            digest = digest_of(copy, block.patterns, data_dir, block.path_key)
            reading = block.reading
            copies[kind] = hash_of({"files": digest, **reading}) if reading else digest
    return copies


def sources(spec: "RunSpec", data_dir: Path) -> dict[str, str | None]:
    """Return what the data and the weights would be read from now, as far as it can be named.

    That is a copy of the user's by its digest, an archive by its sha256, a repository of the hub by
    its commit (None where the newest is wanted and none is here yet), other data by what their
    yaml says of them.

    Args:
        spec: the run's, with its ``local_copies``.
        data_dir: the folder of data and weights.
    """
    found: dict[str, str | None] = {}
    for kind, block in blocks(spec).items():
        if kind in spec.local_copies:
            found[kind] = f"local copy {spec.local_copies[kind]}"
        elif block.hub:
            found[kind] = _commit(block, data_dir)
        elif block.archive:
            found[kind] = f"sha256 {block.archive.sha256}"
        else:
            found[kind] = f"yaml {hash_of(block.published)}"
    return found


def blocks(spec: "RunSpec") -> dict[str, "FilesSpec"]:
    """Return what says where the data and the weights come from; nothing of made-up problems."""
    if spec.task.synthetic:
        return {}
    found = {"data": spec.task.data_read, "weights": spec.model.weights}
    return {kind: block for kind, block in found.items() if block}


def _commit(block: "FilesSpec", data_dir: Path) -> str | None:
    if block.hub and block.hub.revision:
        return f"{block.hub.repository}@{block.hub.revision}"
    from tasks.data.hub import local_revision

    return local_revision(block, data_dir)


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested dictionaries, each with its dotted key."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return value
