"""The benchmark of the training loop: both ways train the same number of steps."""

import torch

from benchmarks import training_loop


def test_both_ways_train_and_are_timed(tmp_path):
    config = training_loop._config("efficientnet_lite0", 2, 1, str(tmp_path))
    task, cpu = training_loop._task(config), torch.device("cpu")
    assert task.model.synthetic_arch == task.model.arch
    task.model = task.model.replaced(synthetic_arch="test_efficientnet")  # for speed, here
    for way in (training_loop._bare, training_loop._ours):
        times = way(config, task, cpu)
        assert times.elapsed > 0 and times.cpu > 0
    assert len(list(tmp_path.glob("cifar/*/metrics.jsonl"))) == 1
