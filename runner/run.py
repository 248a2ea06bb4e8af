"""One run, from its configuration to its record."""

import logging
import random
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from runner import config as configuration
from runner.errors import Busy, Crash, Stopped
from runner.record import SCHEMA, RunFolder, write_json
from tasks.errors import UserError
from tasks.sources import default_data_dir
from tasks.storage import FULL

if TYPE_CHECKING:
    import torch

    from runner.train import Training
    from tasks.task import Task

logger = logging.getLogger(__name__)


def run(config: DictConfig) -> dict[str, Any]:
    """Train what the configuration describes, or find that this was done; return the record.

    Raises:
        UserError: if the user can put it right; nothing is written.
        Stopped: after SIGINT or SIGTERM; the same configuration goes on from there.
        Busy: if another process is at it.
        Crash: for anything else.
    """
    settings = configuration.settings_of(config)
    identity = configuration.run_id(settings)
    folder = RunFolder(configuration.runs_dir(config), settings, identity)
    record = folder.read_record()
    if record is not None:
        return record
    folder.make()
    said = _explained(folder, config, settings, identity)
    with _full_disk_said(folder), said, folder.lock:
        folder.tidy()
        return folder.read_record() or _train(config, settings, identity, folder)


def show(record: Mapping[str, Any]) -> str:
    """Return a run's result in a few lines."""
    results, measured = record["results"], record["measured"]
    task = record["settings"]["task"]
    metric, baseline = task["metric"], task.get("baseline", "majority class")
    form = ".4f" if task["higher_is_better"] else ".4g"  # an error may be very small
    lines = [f"{record['run_id']}: {record['status']} after {results['steps']} steps"]
    for split in ("validation", "test"):
        scores = results[split]
        lines.append(
            f"  {split:10}  {metric} {scores['averaged']:{form}} averaged, "
            f"{scores['last']:{form}} last"
            f"  ({baseline} {scores['majority']:{form}}, {scores['examples']} examples)"
        )
    facts = ", ".join(f"{name} = {value:.4g}" for name, value in results.get("facts", {}).items())
    lines += [f"  {facts}"] if facts else []
    lines += [f"  trouble: {sentence}" for sentence in results.get("trouble", ())]
    lines.append(
        f"  {measured['seconds']:.0f} s, "
        f"{measured['examples_per_second']:.0f} examples/s in training"
    )
    return "\n".join(lines)


def _train(
    config: DictConfig, settings: dict[str, Any], identity: str, folder: RunFolder
) -> dict[str, Any]:
    """Do the run's work, now that it is known to be ours and not yet done."""
    # Torch takes seconds to import: only when there is something to train.
    import torch

    from runner import checkpoint, environment
    from runner.tracking import tracker
    from runner.train import Training, train

    options = configuration.to_plain(config)
    started = datetime.now(UTC)
    device = _device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    environment.reset_peak_memory(device)
    # Now, not at the end: the checkout may change while the run trains.
    origin = {**description(config, settings), **environment.describe(device)}

    task = build_task(config)
    clock = time.monotonic()  # data and features are had once for many runs: not this one's time
    _seed(settings["seed"])
    network = task.network().to(device)
    training = Training(network, *_optimizer(settings, config, network), began=clock)
    saved = checkpoint.load(folder.checkpoint, device)
    if saved is not None:
        training.load_state_dict(saved)
        if not config.threads:  # sums come out the same only with as many threads
            torch.set_num_threads(saved["threads"])
        logger.info("going on from step %d", training.step)

    folder.failure.unlink(missing_ok=True)
    with tracker(config.wandb, settings, identity, folder.path) as mirror:
        train(training, task, settings, options, folder, mirror, device)
        results = _results(training, task, settings, options, device)
        mirror.summarise(results)
    record = {
        "schema": SCHEMA,
        "run_id": identity,
        "status": "diverged" if training.diverged else "finished",
        "results": results,
        "fingerprints": task.fingerprints(),
        **origin,
        "measured": {
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(training.seconds, 3),
            "train_seconds": round(training.train_seconds, 3),
            "examples_per_second": round(
                training.step * settings["train"]["batch_size"] / training.train_seconds, 2
            ),
            "peak_memory_bytes": environment.peak_memory(device),
            "sessions": training.sessions,
            "threads": torch.get_num_threads(),
        },
    }
    folder.lock.check()
    write_json(folder.record, record)
    folder.checkpoint.unlink(missing_ok=True)
    return record


def description(config: DictConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tables need to know of a run before it has a result."""
    changes = configuration.opt_changes(config)
    return {
        "settings": settings,
        "problem_id": configuration.problem_id(settings),
        "opt_default": not changes,
        "opt_changed": changes,
        "opt_label": config.opt.label,
        "grid": configuration.to_plain(config.opt.grid),
    }


def build_task(config: DictConfig) -> "Task":
    """Build the task that the configuration names, fetching its data and weights if need be."""
    from hydra.utils import get_class

    parts = (config.task, config.model, config.train)
    return get_class(config.task._target_)(
        *(configuration.to_plain(part) for part in parts), data_dir(config)
    )


def data_dir(config: DictConfig) -> Path:
    """Return the folder of data and weights."""
    chosen = Path(config.data_dir).expanduser() if config.data_dir else default_data_dir()
    return chosen.resolve()


def _optimizer(settings: Mapping[str, Any], config: DictConfig, network: Any) -> tuple[Any, Any]:
    """Build the optimizer and the averager; its yaml holds arguments among a few keys of ours."""
    from hydra.utils import get_class

    from dog import PolynomialDecayAverager

    ours = {"name", "schedule", "warmup", "clip_norm"}
    arguments = {name: value for name, value in settings["opt"].items() if name not in ours}
    parameters = [p for p in network.parameters() if p.requires_grad]
    try:
        optimizer = get_class(config.opt._target_)(parameters, **arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"opt={settings['opt']['name']}: {error}") from error
    return optimizer, PolynomialDecayAverager(network, settings["train"]["averaging_gamma"])


def _results(
    training: "Training",
    task: "Task",
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
    device: "torch.device",
) -> dict[str, Any]:
    """Score both iterates on validation and test; divergence scores as the majority class."""
    import numpy as np

    from runner.train import evaluate, iterates

    # DoG's own; other optimizers have nothing to tell.
    trouble = getattr(training.optimizer, "trouble", list)
    telemetry = getattr(training.optimizer, "telemetry", list)
    networks = iterates(training)
    results: dict[str, Any] = {
        "steps": training.step,
        "train_loss": None if training.diverged else training.train_loss,
        "trouble": trouble(),
        "test_correct": {},
    }
    for split in ("validation", "test"):
        majority = task.majority(split)
        scores = {"majority": majority, **dict.fromkeys(networks, majority)}
        results[split] = {**scores, "examples": task.count(split)}
    if training.diverged:
        return results
    if facts := task.facts(networks["last"], telemetry()):
        results["facts"] = facts
    for name, kept in training.best.items():
        networks[name].load_state_dict(kept["weights"])
        results.setdefault("checkpoint_steps", {})[name] = kept["step"]
    precision = settings["train"]["precision"]
    for split in ("validation", "test"):
        answers = evaluate(task, networks, split, options, device, precision)
        for name, predictions in answers.items():
            results[split][name] = task.score(split, predictions)
            correct = task.correct(split, predictions)
            if split == "test" and correct is not None:
                results["test_correct"][name] = np.packbits(correct).tobytes().hex()
    return results


def _seed(seed: int) -> None:
    import numpy as np
    import torch

    from runner.order import seed_for

    random.seed(seed_for(seed, "python"))
    np.random.seed(seed_for(seed, "numpy") % 2**32)
    torch.manual_seed(seed_for(seed, "torch"))


def _device(name: str) -> "torch.device":
    import torch

    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UserError("device=cuda: torch sees no GPU here; say device=cpu or device=auto")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


@contextmanager
def _full_disk_said(folder: RunFolder) -> Iterator[None]:
    """Turn a full disk into a line of advice."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(
            f"the disk that holds {folder.path} is full: free some space and run the same "
            "command again; it goes on from its last checkpoint"
        ) from error


@contextmanager
def _explained(
    folder: RunFolder, config: DictConfig, settings: Mapping[str, Any], identity: str
) -> Iterator[None]:
    """Turn a crash into failure.json and log.txt."""
    try:
        yield
    except UserError:
        folder.remove_if_empty()
        raise
    except (Busy, Stopped):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        summary = " ".join(f"{type(error).__name__}: {error}".split())
        with folder.log.open("a") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} crashed\n")
            traceback.print_exception(error, file=log)
        failure = {"run_id": identity, "error": summary, "log": folder.log.name}
        write_json(folder.failure, failure | description(config, settings))
        raise Crash(f"the run crashed: {summary} (see {folder.log})") from error
