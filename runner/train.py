"""The training loop, from the first step to the last."""

import math
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from dog import PolynomialDecayAverager
from runner import checkpoint
from runner.errors import Stopped
from runner.order import Batches, Parts, prepared
from runner.record import RunFolder, to_json
from runner.schedule import factor
from runner.tracking import Tracker
from tasks.errors import NotFinite
from tasks.task import Task, to_device

Name = TypeVar("Name")

# Steps between looks at whether the run has diverged: a look makes a GPU wait. It is part of what
# divergence means (Training.look), so that no option may change it.
CHECK_EVERY = 10
# Steps that are logged besides every log_every-th: DoG's step size grows most at the beginning.
EARLY = (1, 2, 3, 5, 7)
# The part of the time that checkpoints of a large network may take.
SAVING_SHARE = 0.05
# What is logged of a DoG optimizer's telemetry.
TELEMETRY = ("eta", "rbar", "G", "gradient_norm", "distance", "skipped")


@dataclass
class Training:
    """All that changes while a run trains; a checkpoint holds just this and the generators."""

    network: nn.Module
    optimizer: Optimizer
    averager: PolynomialDecayAverager
    step: int = 0  # steps taken
    train_loss: float = math.nan  # the latest seen
    diverged: bool = False  # whether a look has found so
    # How many of the latest steps in a row had a loss that was not finite, on the device.
    lost: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))
    earlier_seconds: float = 0.0  # what counts beside those since `began`: of earlier sessions
    train_seconds: float = 0.0  # of the steps alone, in all sessions
    sessions: int = 1  # how often the run was started
    metrics_bytes: int = 0  # length of metrics.jsonl
    replicas: int = 1  # how many runs trained together, at most
    # Of each iterate the weights, gain and step of its best validation, where the protocol asks.
    best: dict[str, dict[str, Any]] = field(default_factory=dict)
    # When this session did; None while its time is a share of that of several runs.
    began: float | None = field(default_factory=time.monotonic)

    def count(self, loss: Tensor) -> None:
        """Count the loss of a step, a scalar, without waiting for the device."""
        self.lost = torch.where(loss.detach().isfinite(), 0, self.lost.to(loss.device) + 1)

    def look(self) -> None:
        """See whether the run has diverged.

        It has if weights (or statistics) are not finite, or if no loss since the last look was: a
        single one may be an optimizer's to skip.
        """
        stays = bool(self.lost >= min(CHECK_EVERY, self.step))
        self.diverged = stays or not is_finite(self.network)

    def keep_if_best(self, name: str, gain: float) -> None:
        """Keep an iterate's weights, on the CPU, if none had a higher gain; of equals the first.

        A gain that is no number is none.
        """
        if not math.isnan(gain) and (name not in self.best or gain > self.best[name]["gain"]):
            weights = iterates(self)[name].state_dict()
            copies = {key: tensor.detach().clone() for key, tensor in weights.items()}
            self.best[name] = _on_cpu({"gain": gain, "step": self.step, "weights": copies})

    _scalars = (
        "step",
        "train_loss",
        "diverged",
        "train_seconds",
        "sessions",
        "metrics_bytes",
        "replicas",
    )

    @property
    def seconds(self) -> float:
        """All the time that the run took so far, evaluation included."""
        running = 0.0 if self.began is None else time.monotonic() - self.began
        return self.earlier_seconds + running

    def stop_clock(self) -> None:
        """Let no time count from now on but what is added to ``earlier_seconds``."""
        self.earlier_seconds, self.began = self.seconds, None

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` needs."""
        return {name: getattr(self, name) for name in self._scalars} | {
            "lost": int(self.lost),
            "seconds": self.seconds,
            "threads": torch.get_num_threads(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averager": self.averager.state_dict(),
            "best": self.best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where :meth:`state_dict` was called."""
        for name in self._scalars:
            setattr(self, name, state[name])
        self.lost = torch.tensor(state["lost"])
        self.earlier_seconds = state["seconds"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.averager.load_state_dict(state["averager"])
        self.best = {name: _on_cpu(kept) for name, kept in state.get("best", {}).items()}
        self.sessions += 1


def _on_cpu(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of an iterate, its weights where they take no memory of a GPU."""
    return {**kept, "weights": {key: tensor.cpu() for key, tensor in kept["weights"].items()}}


def train(
    training: Training,
    task: Task,
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
    folder: RunFolder,
    tracker: Tracker,
    device: torch.device,
) -> None:
    """Train until the protocol's last step, or until the run has diverged.

    Raises:
        Stopped: after SIGINT or SIGTERM, with the state saved.
        Busy: if another process took the run over.
    """
    network, optimizer, averager = training.network, training.optimizer, training.averager
    budget, opt = settings["train"], settings["opt"]
    steps, precision = budget["steps"], budget["precision"]
    keeps_best = budget.get("checkpoint") == "best"
    base_rates = [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]
    batches = Batches(task, budget["batch_size"], settings["seed"])
    clock = time.monotonic()
    due_at = clock + options["checkpoint_seconds"]  # when the next checkpoint is

    task.set_training(network)
    with (
        metrics_file(folder, training) as log,
        stop_request() as stop,
        progress_bar(training, steps, options["progress"]) as bar,
    ):
        for batch in prepared(batches, range(training.step, steps), options["workers"]):
            if training.diverged:
                break
            inputs, targets = to_device(batch, device)
            for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
                group["lr"] = rate * factor(training.step, steps, opt["schedule"], opt["warmup"])

            optimizer.zero_grad()
            with autocast(device, precision):
                loss = task.loss(task.forward(network, inputs), targets)
            loss.backward()
            if opt["clip_norm"] is not None:
                nn.utils.clip_grad_norm_(network.parameters(), opt["clip_norm"])
            optimizer.step()
            averager.step()
            training.step += 1

            step, last = training.step, training.step == steps
            training.count(loss)
            looked_at = is_looked_at(step, steps)
            logged = is_logged(step, steps, options["log_every"])
            if looked_at or logged:
                training.train_loss = loss.item()
            if looked_at:
                training.look()
            if logged:
                line = {"step": step, "loss": training.train_loss, **step_size(optimizer)}
                bar.set_postfix(shown(line))
                log(line)
                tracker.log(line)
            bar.update()

            training.train_seconds += time.monotonic() - clock
            # The last step's scores are those of the result, unless an earlier step may beat them.
            due = keeps_best if last else step % budget["eval_every"] == 0
            if due and not training.diverged:
                (line,) = validate([training], task, options, device)
                log(line)
                tracker.log(line)
                task.set_training(network)
            if stop.signum or last or time.monotonic() > due_at:
                training.metrics_bytes = log.size()
                began = time.monotonic()
                folder.lock.check()
                checkpoint.save(folder.checkpoint, training.state_dict())
                cost = time.monotonic() - began
                due_at = began + max(options["checkpoint_seconds"], cost / SAVING_SHARE)
                if stop.signum and not last:
                    raise Stopped(stop.signum, step)
            clock = time.monotonic()


def is_looked_at(step: int, steps: int) -> bool:
    """Return whether a step is one after which a run may turn out to have diverged."""
    return step == steps or step % CHECK_EVERY == 0


def is_finite(network: nn.Module) -> bool:
    """Return whether all weights and statistics of a network are finite."""
    tensors = [t.detach() for t in (*network.parameters(), *network.buffers())]
    bounds = [
        bound.double()
        for t in tensors
        if t.is_floating_point() and t.numel()
        for bound in torch.aminmax(t)
    ]
    return bool(torch.stack(bounds).isfinite().all())


def is_logged(step: int, steps: int, log_every: int) -> bool:
    """Return whether a step has a line in metrics.jsonl."""
    return step == steps or step % log_every == 0 or step in EARLY


def validate(
    trainings: Sequence[Training], task: Task, options: Mapping[str, Any], device: torch.device
) -> list[dict[str, float]]:
    """Return each run's log line with the validation scores of its iterates.

    Iterates that are their run's best so far are kept, where the protocol asks.
    """
    networks = {
        (i, name): network
        for i, training in enumerate(trainings)
        for name, network in iterates(training).items()
    }
    answers = evaluate(task, networks, "validation", options, device, task.train["precision"])
    lines: list[dict[str, float]] = [{"step": training.step} for training in trainings]
    for i, name in networks:
        predictions = answers.get((i, name))
        score = math.nan if predictions is None else task.score("validation", predictions)
        lines[i][f"validation_{name}"] = score
        if task.train.get("checkpoint") == "best":
            trainings[i].keep_if_best(name, score if task.higher_is_better else -score)
    return lines


def iterates(training: Training) -> dict[str, nn.Module]:
    """Return the two sets of weights that every optimizer is judged by."""
    return {"last": training.network, "averaged": training.averager.averaged_model}


@torch.no_grad()
def evaluate(
    task: Task,
    networks: Mapping[Name, nn.Module],
    split: str,
    options: Mapping[str, Any],
    device: torch.device,
    precision: str,
) -> dict[Name, np.ndarray]:
    """Return each network's predictions for all of a split, [N, ...], in the split's order.

    Networks whose outputs are not finite have none.
    """
    parts: dict[Name, list[Tensor]] = {name: [] for name in networks}
    for network in networks.values():
        network.eval()
    batches = Parts(task, split, options["eval_batch_size"])
    for batch in prepared(batches, range(len(batches)), options["workers"]):
        inputs, _ = to_device(batch, device)
        for name in list(parts):
            try:
                with autocast(device, precision):
                    parts[name].append(task.predict(networks[name], inputs).cpu())
            except NotFinite:
                del parts[name]
    return {name: torch.cat(predictions).numpy() for name, predictions in parts.items()}


def step_size(optimizer: Optimizer) -> dict[str, float]:
    """Return what is to be logged of an optimizer: DoG's own numbers, or the learning rate."""
    telemetry = getattr(optimizer, "telemetry", None)
    if telemetry is None:
        return {"lr": optimizer.param_groups[0]["lr"]}
    return step_size_of(telemetry())


def step_size_of(blocks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return what is to be logged of a DoG optimizer's telemetry.

    Where several sets of tensors have a step size each, the median, and η's range.
    """
    if not blocks:  # no parameter has had a gradient yet
        return {}
    numbers = {name: median(block[name] for block in blocks) for name in TELEMETRY}
    if len(blocks) > 1:
        etas = [block["eta"] for block in blocks]
        numbers |= {"eta_min": min(etas), "eta_max": max(etas)}
    return numbers


def shown(line: Mapping[str, float]) -> dict[str, str]:
    """Return the part of a log line that the progress bar shows."""
    symbols = {"loss": "loss", "eta": "η", "lr": "lr"}
    return {symbols[name]: f"{line[name]:.3g}" for name in symbols if name in line}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which the network runs in the given precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


class MetricsLog:
    """Appends lines of JSON to metrics.jsonl."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __call__(self, line: Mapping[str, float]) -> None:
        self.file.write((to_json(line) + "\n").encode())
        self.file.flush()

    def size(self) -> int:
        """Return the length so far, in bytes."""
        return self.file.tell()


@contextmanager
def metrics_file(folder: RunFolder, training: Training) -> Iterator[MetricsLog]:
    """Open metrics.jsonl, without the lines that came after the checkpoint."""
    folder.metrics.touch()
    with folder.metrics.open("r+b") as file:
        file.truncate(training.metrics_bytes)
        file.seek(0, 2)
        yield MetricsLog(file)


@contextmanager
def progress_bar(training: Training, steps: int, wanted: bool) -> Iterator[tqdm]:
    """Show where the run is; a line every ten seconds where nobody watches a terminal."""
    with tqdm(
        total=steps,
        initial=training.step,
        unit="step",
        disable=not wanted,
        mininterval=0.2 if sys.stderr.isatty() else 10,
    ) as bar:
        yield bar


class StopRequest:
    """Remembers that a signal came, so that the loop can end between two steps."""

    signum = 0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Hold back SIGINT and SIGTERM until the step is done and saved."""
    request = StopRequest()
    before = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
