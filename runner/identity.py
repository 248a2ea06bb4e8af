"""What names a run and its problem, and what its data and weights are read from."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.data.hub import Kind

# What data and weights are called on the hub.
KINDS: "dict[str, Kind]" = {"data": "dataset", "weights": "model"}
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


def local_copies(config: Mapping[str, Any], data_dir: Path) -> dict[str, str]:
    """Return a digest of the data and of the weights, each where the user gives a copy.

    Args:
        config: the run's whole configuration, as plain values.
        data_dir: the folder of data and weights.

    Raises:
        UserError: if a copy cannot be read.
    """
    from tasks.data.digest import digest_of
    from tasks.data.hub import path_key

    copies = {}
    for kind, block in blocks(config).items():
        if "sha256" in block:
            continue  # whatever the copy, what is read must be this
        if block.get("path"):
            path = Path(block["path"]).expanduser()
            copies[kind] = digest_of(path, _files(block), data_dir, path_key(block, KINDS[kind]))
        elif "manual" in block:
            path = data_dir / "manual" / block["reader"].rpartition(".")[2]
            if path.is_dir():  # else the task says what is to be put there
                copies[kind] = digest_of(path, _files(block), data_dir, "the data")
    return copies


def sources(
    config: Mapping[str, Any], copies: Mapping[str, str], data_dir: Path
) -> dict[str, str | None]:
    """Return what the data and the weights would be read from now, as far as it can be named.

    That is a copy of the user's by its digest, an archive by its sha256, a repository of the hub by
    its commit (None where the newest is wanted and none is here yet), other data by what their
    yaml says of them.

    Args:
        config: the run's whole configuration, as plain values.
        copies: what :func:`local_copies` returns.
        data_dir: the folder of data and weights.
    """
    found: dict[str, str | None] = {}
    for kind, block in blocks(config).items():
        if kind in copies:
            found[kind] = f"local copy {copies[kind]}"
        elif "hub" in block:
            found[kind] = _commit(block, kind, data_dir)
        elif "registry" in block.get("source", {}):
            found[kind] = f"sha256 {block['source']['sha256']}"
        else:
            named = {key: block.get(key) for key in ("torchvision", "url", "set", "sha256", "md5")}
            found[kind] = f"yaml {hash_of(named)}"
    return found


def blocks(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return what says where the data and the weights come from; nothing of made-up problems."""
    task = config["task"]
    if task["synthetic"]:
        return {}
    data = task.get("data")
    if not data and "source" in task:
        data = {**task["source"]["data"], "path_key": "task.source.data.path"}
    found = {"data": data, "weights": config["model"].get("weights")}
    return {kind: block for kind, block in found.items() if block}


def _files(block: Mapping[str, Any]) -> list[str]:
    """Return which files of a copy are read, as fnmatch patterns."""
    from tasks.data.hub import patterns_of

    return [Path(block["url"]).name] if "url" in block else patterns_of(block)


def _commit(block: Mapping[str, Any], kind: str, data_dir: Path) -> str | None:
    hub = block["hub"]
    if hub["revision"]:
        return f"{hub['repository']}@{hub['revision']}"
    from tasks.data.hub import local_revision

    return local_revision(block, KINDS[kind], data_dir)


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
