"""The benchmark of the training loop: both ways train the same number of steps."""

import torch
from omegaconf import OmegaConf

from benchmarks import training_loop
from runner.run import build_task


def test_both_ways_train_and_are_timed():
    config = training_loop._config("efficientnet_lite0", steps=2, threads=1)
    assert config.model.synthetic_arch == config.model.arch  # in the benchmark, not here
    OmegaConf.update(config, "model.synthetic_arch", "test_efficientnet")
    task, cpu = build_task(config), torch.device("cpu")
    for way in (training_loop._bare, training_loop._ours):
        times = way(config, task, cpu)
        assert times.elapsed > 0 and times.cpu > 0
