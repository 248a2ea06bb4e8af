"""What configurations need from the package registries."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from runner import config as configuration
from runner.config import CONFIGS
from tasks.sources import Source, source_from
from tasks.storage import sealed_facts

if TYPE_CHECKING:
    from tasks.hub import Kind


def sources(configs: Iterable[DictConfig]) -> list[Source]:
    """Return the archives of the data and weights of these configurations, each once.

    What comes from a hub, through torchvision or by hand has none.
    """
    return _archives(block for config in configs for block in _blocks(config).values())


def from_elsewhere(configs: Iterable[DictConfig], data_dir: Path) -> list[str]:
    """Return what a hub, torchvision or an address is still to give: of sizes not known here."""
    from tasks import copies, hub

    missing: dict[str, None] = {}
    for config in configs:
        for kind, block in _blocks(config).items():
            block = configuration.to_plain(block)
            if "hub" in block:
                name = block["hub"]["repository"]
                folder = hub.fetched_folder(block, kind, data_dir)
            elif "torchvision" in block or "url" in block:
                name = block.get("torchvision") or block["url"]
                folder = copies.fetched_folder(block, data_dir)
            else:
                continue
            if sealed_facts(folder) is None:
                missing[name] = None
    return list(missing)


def everything() -> list[Source]:
    """Return the archives of all tasks and models, and of the package that ours is compared to.

    They are read off the yamls themselves: to compose each configuration would take a minute.
    """
    paths = sorted(path for group in ("task", "model") for path in CONFIGS.glob(f"{group}/*.yaml"))
    contents: list[Any] = [OmegaConf.load(path) for path in paths]
    blocks = [content.get("data") or content.get("weights") or {} for content in contents]
    return _archives(
        [*blocks, OmegaConf.load(configuration.ROOT / "benchmarks/dog_optimizer.yaml")]
    )


def _blocks(config: DictConfig) -> dict["Kind", Any]:
    """Return what says where data and weights come from, unless the user has a copy."""
    if config.task.synthetic:
        return {}
    data = config.task.get("data") or config.task.get("source", {}).get("data", {})
    blocks: dict[Kind, Any] = {"dataset": data, "model": config.model.get("weights", {})}
    return {kind: block for kind, block in blocks.items() if block and not block.get("path")}


def _archives(blocks: Iterable[Any]) -> list[Source]:
    """Return each different archive of a package registry that these blocks name, once."""
    archives = [block.source for block in blocks if "registry" in block.get("source", {})]
    return list(dict.fromkeys(source_from(configuration.to_plain(one)) for one in archives))
