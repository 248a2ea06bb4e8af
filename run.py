"""Train one run: python run.py task=cifar opt=dog (all keys: configs/config.yaml)."""

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from runner import cli, config
from runner.run import run, show


def main() -> None:
    """Train what the command line describes; Hydra's own options (-m, --cfg, --help) work too."""
    words = sys.argv[1:]
    if not any(word.startswith("-") for word in words):
        print(show(run(config.load(words))))
        return
    config.check_names(word for word in words if "=" in word and not word.startswith("-"))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through as they are
    _hydra_main()


@hydra.main(config_path="configs", config_name="config", version_base=None)
def _hydra_main(_: DictConfig) -> None:
    print(show(run(config.load(HydraConfig.get().overrides.task))))


if __name__ == "__main__":
    cli.main(main)
