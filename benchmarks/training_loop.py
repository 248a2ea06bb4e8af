"""What the training loop costs beside the bare network: python -m benchmarks.training_loop

Trains EfficientNet-Lite0 and SqueezeNet on random images of CIFAR-10's shape, with DoG, in two
ways: by `runner.train`, which prepares batches, averages weights, logs and looks for divergence;
and by a bare loop of forward, backward and optimizer step on batches that were prepared before.
Both ways take turns in one process. Evaluation and checkpoints are not counted. No files are
needed. It takes about a minute on two cores.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from statistics import median

import torch

from runner import cli
from runner import config as configuration
from runner.batches import TrainBatches
from runner.metrics import metrics_file
from runner.optimizer import build_optimizer
from runner.run import Job, build_task, prepare_training, set_up
from runner.signals import StopRequest
from runner.single_run import SingleRun, progress_bar
from runner.tracking import Tracker
from runner.train import train
from tasks.task import Task, to_device

MODELS = ("efficientnet_lite0", "squeezenet")
IMAGES = ["task=cifar", "task.synthetic=true", "train.image_size=64", "train.batch_size=32"]
QUIET = ["wandb.mode=disabled", "progress=false", "checkpoint_seconds=10000"]
PREPARED = 20  # batches that the bare loop has; it uses them again and again
WARM_UP = 3  # steps


@dataclass(frozen=True)
class Times:
    """What some training steps took, in seconds."""

    elapsed: float
    cpu: float  # of all threads of this process


def main() -> None:
    """Time both ways for each model and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=MODELS, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=80, help="in all, default: %(default)s")
    parser.add_argument("--rounds", type=int, default=2, help="turns, default: %(default)s")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    print("| model | bare, images/s | our loop, images/s | share | share of CPU time |")
    print("|:--|--:|--:|--:|--:|")
    for model in options.models:
        print(_row(model, options.steps // options.rounds, options.rounds, options.threads))


def _row(model: str, steps: int, rounds: int, threads: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        warm_up, config = (_config(model, n, threads, folder) for n in (WARM_UP, steps))
        device, _ = set_up(config.execution)
        task = _task(config)
        ways = (_bare, _ours)
        for way in ways:
            way(warm_up, task, device)
        pairs = [[way(config, task, device) for way in ways] for _ in range(rounds)]
    images = steps * config.spec.train.batch_size
    speeds = [median(images / pair[i].elapsed for pair in pairs) for i in range(len(ways))]
    share = median(bare.elapsed / ours.elapsed for bare, ours in pairs)
    cpu_share = median(bare.cpu / ours.cpu for bare, ours in pairs)
    return f"| {model} | {speeds[0]:.0f} | {speeds[1]:.0f} | {share:.1%} | {cpu_share:.1%} |"


def _config(model: str, steps: int, threads: int, folder: str) -> configuration.Config:
    words = [*IMAGES, *QUIET, f"model={model}", f"threads={threads}", f"runs_dir={folder}"]
    return configuration.load([*words, f"train.steps={steps}", f"train.eval_every={steps + 1}"])


def _task(config: configuration.Config) -> Task:
    """Build the synthetic task, with the network itself and not a tiny one of its kind."""
    task = build_task(config)
    task.model = task.model.replaced(synthetic_arch=task.model.arch)
    return task


def _bare(config: configuration.Config, task: Task, device: torch.device) -> Times:
    """Train by nothing but forward, backward and step."""
    job, budget = Job.of(config), config.spec.train
    network = task.network().to(device)
    task.set_training(network)
    stepper = build_optimizer(job.spec.opt, network)
    source = TrainBatches(task, budget.batch_size, [config.spec.seed])
    batches = [to_device(source[step][0], device) for step in range(PREPARED)]
    watch = _Watch(device)
    for step in range(budget.steps):
        inputs, targets = batches[step % PREPARED]
        stepper.zero_grad()
        loss = task.loss(task.forward(network, inputs), targets)
        loss.backward()
        stepper.step()
    return watch.times()


def _ours(config: configuration.Config, task: Task, device: torch.device) -> Times:
    """Train by the training loop, which writes no checkpoint."""
    job = Job.of(config)
    job.folder.make()
    state = prepare_training(job, task, device)
    with metrics_file(job.folder, state) as log, progress_bar(0, 0, wanted=False) as bar:
        run = SingleRun(state, task, job, log, Tracker(), bar)
        run.save = lambda: None  # type: ignore[method-assign]
        watch = _Watch(device)
        train(run, StopRequest())
        times = watch.times()
    assert state.step == job.spec.train.steps, "the run has diverged"
    return times


class _Watch:
    """Measures from when it is made; a GPU is waited for."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.began = self._now()

    def times(self) -> Times:
        """Return the times since then."""
        now = self._now()
        return Times(now.elapsed - self.began.elapsed, now.cpu - self.began.cpu)

    def _now(self) -> Times:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return Times(time.monotonic(), time.process_time())


if __name__ == "__main__":
    cli.main(main)
