"""What configurations need from the package registries."""

from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from runner import config as configuration
from runner.config import CONFIGS
from tasks.sources import Source, source_from


def sources(configs: Iterable[DictConfig]) -> list[Source]:
    """Return the archives of the data and weights of these configurations, each once.

    What comes from a hub, through torchvision or by hand has none.
    """
    blocks: list[Any] = []
    for config in configs:
        if config.task.synthetic:
            continue
        data = config.task.get("data") or config.task.get("source", {}).get("data", {})
        blocks += [
            block for block in (data, config.model.get("weights", {})) if not block.get("path")
        ]
    return _archives(blocks)


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


def _archives(blocks: Iterable[Any]) -> list[Source]:
    """Return each different archive of a package registry that these blocks name, once."""
    archives = [block.source for block in blocks if "registry" in block.get("source", {})]
    return list(dict.fromkeys(source_from(configuration.to_plain(one)) for one in archives))
