"""What configurations need of data and weights, and its fetching before the first run starts."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from runner import config as configuration
from runner import identity
from runner.config import CONFIGS, Config
from tasks.data.sources import fetch, fetched_folder
from tasks.data.specs import Archive
from tasks.data.storage import sealed_facts
from tasks.errors import UserError

if TYPE_CHECKING:
    from tasks.data.hub import Kind

Block = Mapping[str, Any]


def fetch_all(configs: Iterable[Config]) -> list[str]:
    """Fetch all data and weights of these configurations; return what is here, and where.

    What the user gives or has to put there is looked at, too. Each is fetched once.

    Raises:
        UserError: if anything is missing, when all else has been fetched: it says what to do.
    """
    here: dict[str, None] = {}
    problems: dict[str, None] = {}
    seen = []
    for config in configs:
        data_dir = config.execution.data
        for kind, block in _blocks(config).items():
            if (block, data_dir) in seen:
                continue
            seen.append((block, data_dir))
            try:
                here[f"{_name(block)}: {_fetch(block, kind, data_dir)}"] = None
            except UserError as error:
                problems[str(error)] = None
    if len(problems) > 1:
        for problem in problems:
            print(f"error: {problem}", file=sys.stderr)
        raise UserError(f"{len(problems)} of the data and weights are missing: see above")
    for problem in problems:
        raise UserError(problem)
    return list(here)


def sources(configs: Iterable[Config]) -> list[Archive]:
    """Return the archives of the data and weights of these configurations, each once.

    What comes from a hub, through torchvision or by hand has none.
    """
    return _archives(block for config in configs for block in _to_fetch(config).values())


def from_elsewhere(configs: Iterable[Config], data_dir: Path) -> list[str]:
    """Return what a hub, torchvision or an address is still to give: of sizes not known here."""
    missing: dict[str, None] = {}
    for config in configs:
        for kind, block in _to_fetch(config).items():
            folder = None if _is_archive(block) else _folder(block, kind, data_dir)
            if folder is not None and sealed_facts(folder) is None:
                missing[_name(block)] = None
    return list(missing)


def everything() -> tuple[list[Archive], list[str]]:
    """Return the archives of all tasks and models, and of the package that ours is compared to.

    And the names of the tasks and models whose data and weights come from elsewhere. They are read
    off the yamls themselves: to compose each configuration would take a minute.
    """
    blocks, others = [], []
    names = [(group, name) for group in ("task", "model") for name in configuration.options(group)]
    for group, name in names:
        content = _yaml(CONFIGS / group / f"{name}.yaml")
        block = content.get("data") or content.get("weights")
        if block and _is_archive(block):
            blocks.append(block)
        elif block and block.get("reader") != "scikit_learn":
            others.append(name)
    published = _yaml(configuration.ROOT / "benchmarks/dog_optimizer.yaml")
    return _archives([*blocks, published]), others


def _yaml(path: Path) -> dict[str, Any]:
    """Return what a yaml holds, and what it shares with others (`_glue`); nothing is resolved."""
    content: Any = OmegaConf.load(path)
    names = [name for name in content.get("defaults", ()) if isinstance(name, str)]
    shared = [_yaml(path.with_name(f"{n}.yaml")) for n in names if n[0] == "_" and n != "_self_"]
    content = OmegaConf.to_container(OmegaConf.merge(*shared, content))
    return dict(content)


def _blocks(config: Config) -> dict["Kind", Block]:
    """Return what says where data and weights come from."""
    blocks = identity.blocks(config.spec.plain())
    return {identity.KINDS[kind]: block for kind, block in blocks.items()}


def _to_fetch(config: Config) -> dict["Kind", Block]:
    """Return the blocks of which the user has no copy."""
    return {kind: block for kind, block in _blocks(config).items() if not block.get("path")}


def _fetch(block: Block, kind: "Kind", data_dir: Path) -> Path | str:
    """Fetch data or weights, if they are not here yet; return where they are."""
    from tasks.data import hub, readers

    if kind == "model" and "hub" in block:
        return hub.copy_of(block, kind, data_dir).folder
    if _is_archive(block) and not block.get("path"):
        return fetch(Archive.parse(block["source"], "source"), data_dir)
    folder = None if block.get("path") else _folder(block, kind, data_dir)
    if folder is None or sealed_facts(folder) is None:
        # Only its reader knows what there must be; what can be fetched, it fetches.
        readers.read(block, data_dir)
    return block.get("path") or folder or "here"


def _folder(block: Block, kind: "Kind", data_dir: Path) -> Path | None:
    """Return where what is fetched will be; None for what is not."""
    from tasks.data import hub
    from tasks.data import local_copies as copies

    if _is_archive(block):
        return fetched_folder(Archive.parse(block["source"], "source"), data_dir)
    if "hub" in block:
        return hub.fetched_folder(block, kind, data_dir)
    if "torchvision" in block or "url" in block:
        return copies.fetched_folder(block, data_dir)
    return None


def _name(block: Block) -> str:
    if _is_archive(block):
        return str(block["source"]["name"])
    if "hub" in block:
        return str(block["hub"]["repository"])
    return str(block.get("torchvision") or block.get("url") or block.get("reader"))


def _is_archive(block: Block) -> bool:
    return "registry" in block.get("source", {})


def _archives(blocks: Iterable[Block]) -> list[Archive]:
    """Return each different archive of a package registry that these blocks name, once."""
    return list(
        dict.fromkeys(Archive.parse(b["source"], "source") for b in blocks if _is_archive(b))
    )
