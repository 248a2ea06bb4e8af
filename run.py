"""Train one run: python run.py task=cifar opt=dog (all keys: configs/config.yaml)."""

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from runner import cli, config, overrides
from runner.errors import Stopped
from runner.run import run, show
from sweeps import multirun
from sweeps.executors.base import python_path


def main() -> None:
    """Train what the command line describes; Hydra's own options (-m, --cfg, --help) work too."""
    words = sys.argv[1:]
    if not any(word.startswith("-") for word in words):
        print(show(run(config.load(words))))
        return
    words = [word if word.startswith("-") else overrides.quoted(word, sweep=True) for word in words]
    config.check_names(word for word in words if "=" in word and not word.startswith("-"))
    sys.argv[1:] = config.for_hydra(words)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through as they are
    os.environ["PYTHONPATH"] = python_path()  # for processes that launchers start
    multirun.report_all_errors()
    _hydra_main()


@hydra.main(config_path="configs", config_name="config", version_base=None)
def _hydra_main(_: DictConfig) -> None:
    cli.make_output_safe()  # this may be a process that a launcher has started
    try:
        print(show(run(config.load(HydraConfig.get().overrides.task))))
    except Stopped as stop:  # Hydra would go on with the next job after any Exception
        sys.exit(cli.report(stop))


if __name__ == "__main__":
    cli.main(main)
