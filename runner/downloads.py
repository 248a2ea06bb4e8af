"""What configurations need from the package registries."""

from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from runner import config as configuration
from tasks.sources import Source, source_from


def sources(configs: Iterable[DictConfig]) -> list[Source]:
    """Return the archives of the data and weights of these configurations, each once.

    What comes from a hub, through torchvision or by hand has none.
    """
    needed: list[Any] = []
    for config in configs:
        if config.task.synthetic or config.task.domain == "theory":  # whose data no one fetches
            continue
        data = config.task.get("data") or config.task.source.data
        for block in (data, config.model.get("weights", {})):
            needed += [block.source] if "source" in block and not block.get("path") else []
    return list(dict.fromkeys(source_from(configuration.to_plain(source)) for source in needed))


def everything() -> list[Source]:
    """Return the archives of all tasks and models, and of the package that ours is compared to."""
    commands = [[f"task={path.stem}"] for path in (configuration.CONFIGS / "task").glob("*.yaml")]
    for path in (configuration.CONFIGS / "model").glob("*.yaml"):
        tasks = {"vision": "cifar", "language": "movies", "theory": "divergence_example"}
        task = tasks[OmegaConf.load(path).for_domain]
        commands.append([f"task={task}", f"model={path.stem}"])
    published = OmegaConf.load(configuration.ROOT / "benchmarks" / "dog_optimizer.yaml")
    return [*sources(map(configuration.load, sorted(commands))), source_from(published.source)]
