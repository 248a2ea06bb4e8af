"""Train one run: python run.py task=cifar opt=dog (all keys: configs/config.yaml)."""

import os
import sys

import hydra
from omegaconf import DictConfig

from runner import cli, config
from runner.run import run, show


@hydra.main(config_path="configs", config_name="config", version_base=None)
def _hydra_main(composed: DictConfig) -> None:
    # Hydra has parsed the command line (and split a multirun); the checks are ours.
    overrides = hydra.core.hydra_config.HydraConfig.get().overrides.task
    print(show(run(config.load(overrides))))


def main() -> None:
    """Check the names first: Hydra's own messages do not say what was meant."""
    config.check_names(argument for argument in sys.argv[1:] if not argument.startswith("-"))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let our errors through as they are
    _hydra_main()


if __name__ == "__main__":
    cli.main(main)
