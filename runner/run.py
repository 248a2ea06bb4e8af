"""One run, from its configuration to its record."""

import logging
import random
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

from runner import SCHEMA
from runner import config as configuration
from runner.config import Config
from runner.errors import Busy, Crash, Stopped
from runner.identity import data_id
from runner.record import RunFolder, finite_or_null, quarantine, write_json
from runner.run_record import Results, RunFailure, RunRecord
from runner.specs import Execution, RunSpec
from tasks.data.storage import FULL
from tasks.errors import UserError, with_type

if TYPE_CHECKING:
    import torch
    from torch import nn

    from runner.training_state import TrainingState
    from tasks.task import Task

logger = logging.getLogger(__name__)

OUT_OF_MEMORY = (
    "; the same command goes on, with a smaller eval_batch_size=, or in a sweep with fewer runs at "
    "once on a GPU: a larger executor.gpu_share="
)


@dataclass(frozen=True)
class Job:
    """A run to do, and its folder."""

    config: Config
    folder: RunFolder

    @classmethod
    def of(cls, config: Config) -> "Job":
        """Return the job that a configuration describes, with the user's own data identified."""
        config = configuration.with_local_copies(config)
        spec, sources = config.spec, configuration.sources_of(config)
        return cls(config, RunFolder(config.execution.runs, spec.task.name, spec.run_id, sources))

    @property
    def spec(self) -> RunSpec:
        """What the result depends on."""
        return self.config.spec

    @property
    def execution(self) -> Execution:
        """What it does not depend on."""
        return self.config.execution

    @property
    def sources(self) -> dict[str, str | None]:
        """What data and weights are read from: what is fetched from a hub has its commit then."""
        return configuration.sources_of(self.config)


@dataclass(frozen=True)
class Provenance:
    """When a run started, and what its record tells of it beside results and measurements."""

    started: datetime
    described: dict[str, Any]  # the run, its code, packages, hardware and data, as a record has it

    @classmethod
    def now(cls, job: Job, made_with: Mapping[str, Any]) -> "Provenance":
        """Note that a run starts: before training, as the checkout may change until the end."""
        return cls(datetime.now(UTC), {**description(job.spec), **made_with})


def run(config: Config) -> RunRecord:
    """Train what the configuration describes, or find that this was done; return the record.

    Raises:
        UserError: if the user can put it right; nothing is written.
        Stopped: after SIGINT or SIGTERM; the same configuration goes on from there.
        Busy: if another process is at it.
        Crash: for anything else.
    """
    job = Job.of(config)
    record = job.folder.result()
    if record is not None:
        if not job.folder.record.exists():
            logger.info("stored in %s; to train it again: runs_dir=mine/runs", job.folder.archive)
        _tell_differences(record, config)
    else:
        job.folder.make()
        with translate_errors(job), job.folder.lock:
            job.folder.remove_stale_files()
            record = job.folder.read_record() or _train(job)
    _tell_where_model_is(job, record)
    return record


def _tell_where_model_is(job: Job, record: RunRecord) -> None:
    weights = job.execution.export
    if not weights or record.status != "finished":
        return
    folder = job.folder.model(weights)
    if not folder.is_dir():
        raise UserError(
            f"{record.run_id} is done, and its {weights} weights were not kept: another folder of "
            "runs, such as runs_dir=mine/runs, trains it again"
        )
    logger.info("trained model, %s weights: %s", weights, folder)


def _tell_differences(record: RunRecord, config: Config) -> None:
    """Say with what else than is here a record was made: the last digits may depend on it."""
    from runner import environment

    if record.numerics is None:
        logger.info("it is not known with what it was made: the last digits may differ here")
    elif different := environment.differences(record.numerics, config.execution.threads):
        made = ", ".join(different)
        logger.info("made with %s: the last digits may differ if it is made again", made)


def show(record: RunRecord) -> str:
    """Return a run's result in a few lines."""
    results, measured = record.results, record.measured
    task = record.settings["task"]
    metric, baseline = task["metric"], task.get("baseline", "majority class")
    lines = [f"{record.run_id}: {record.status} after {results.steps} steps"]
    for split, scores in (("validation", results.validation), ("test", results.test)):
        form = ".4f" if task["higher_is_better"] else ".4g"  # errors may be very small
        last, majority = (_shown(score, form) for score in (scores.last, scores.majority))
        if scores.averaged is None:  # the optimizer averages by itself
            found = last
        else:
            found = f"{_shown(scores.averaged, form)} averaged, {last} last"
        lines.append(
            f"  {split:10}  {metric} {found}  ({baseline} {majority}, {scores.examples} examples)"
        )
    diagnostics = ", ".join(
        f"{name} = {'not finite' if value is None else format(value, '.4g')}"
        for name, value in (results.facts or {}).items()
    )
    lines += [f"  {diagnostics}"] if diagnostics else []
    lines += [f"  trouble: {sentence}" for sentence in results.trouble or ()]
    speed = _shown(measured.examples_per_second, ".0f")
    lines.append(f"  {measured.seconds:.0f} s, {speed} examples/s in training")
    return "\n".join(lines)


def _shown(number: float | None, form: str) -> str:
    return "unknown" if number is None else format(number, form)


def _train(job: Job) -> RunRecord:
    """Do the run's work, now that it is known to be ours and not yet done."""
    from runner.single_run import train_alone
    from runner.tracking import tracker

    device, made_with = set_up(job.execution)
    task = build_task(job.config)
    job.folder.remove_models()  # of a record that was put aside
    provenance = Provenance.now(job, made_with | what_was_read(job, task))
    state = prepare_training(job, task, device)
    with tracker(job) as mirror:
        train_alone(state, task, job, mirror)
        (found,) = results(task, [state], job.execution)
        mirror.summarise(found)
    _export(job, task, state)
    return write_record(job, provenance, state, found)


def set_up(execution: Execution) -> tuple["torch.device", dict[str, Any]]:
    """Prepare this process for training.

    Returns:
        The device, and the record's parts `code`, `packages` and `hardware`.
    """
    # Torch takes seconds to import: only when there is something to train.
    import torch

    from runner import environment
    from runner.cores import asked_threads, usable_cores

    device = _device(execution.device)
    if execution.threads:
        torch.set_num_threads(execution.threads)
    elif asked_threads() is None and torch.get_num_threads() > usable_cores():
        torch.set_num_threads(usable_cores())  # torch knows of affinity, and of no quota
    environment.reset_peak_memory(device)
    return device, environment.describe(device)


def what_was_read(job: Job, task: "Task") -> dict[str, Any]:
    """Return the record's parts `data_id`, `fingerprints` and `sources`."""
    fingerprints = task.fingerprints()
    return {
        "data_id": data_id(fingerprints),
        "fingerprints": fingerprints,
        "sources": job.sources,
    }


def prepare_training(job: Job, task: "Task", device: "torch.device") -> "TrainingState":
    """Return the state that the run trains from: of its checkpoint, or before the first step."""
    import torch

    from dog import PolynomialDecayAverager
    from runner import checkpoint
    from runner.optimizer import build_optimizer
    from runner.training_state import TrainingState

    # Loading data and computing features, which runs share, is not counted.
    clock = time.monotonic()
    _seed(job.spec.seed)
    network = task.network().to(device)
    opt, gamma = job.spec.opt, job.spec.train.averaging_gamma
    averager = None if opt.averages_itself else PolynomialDecayAverager(network, gamma)
    sources, optimizer = job.sources, build_optimizer(opt, network)
    state = TrainingState(network, optimizer, averager, began=clock, sources=sources)
    saved = checkpoint.load(job.folder.checkpoint, device)
    fault = None
    if saved is not None and not job.folder.has_metrics(saved["metrics_bytes"]):
        fault = "goes further than metrics.jsonl does"
    elif saved is not None and (other := saved.get("run_id", job.spec.run_id)) != job.spec.run_id:
        fault = f"is that of another run, {other}"
    elif saved is not None and saved.get("sources", sources) != sources:
        fault = "is of other data or weights"  # a hub's newest, which were fetched again
    if fault:
        quarantine(job.folder.checkpoint, fault)
        return prepare_training(job, task, device)
    if saved is not None:
        state.load_state_dict(saved)
        if not job.execution.threads:  # sums come out the same only with as many threads
            torch.set_num_threads(saved["threads"])
        logger.info("going on from step %d", state.step)
    elif not opt.resumable and job.folder.has_metrics(1):
        logger.info("begins anew: opt=%s cannot be resumed (resumable: false)", opt.name)
    job.folder.failure.unlink(missing_ok=True)
    return state


def _export(job: Job, task: "Task", state: "TrainingState") -> None:
    """Keep the weights that were asked for, as they were scored."""
    weights = job.execution.export
    if weights is None or state.diverged:
        return
    from tasks.export import export

    with state.in_eval_mode():
        iterate = weights if weights in state.iterates else "last"  # averaged by its optimizer
        network = state.iterates[iterate]
        if iterate in state.best:
            network.load_state_dict(state.best[iterate].weights)
        job.folder.lock.check()
        export(task, network, job.folder.model(weights))


def write_record(
    job: Job, provenance: Provenance, training: "TrainingState", found: Results
) -> RunRecord:
    """Write the record of a run that is at its end, and return it."""
    import torch

    from runner import environment

    examples = training.step * job.spec.train.batch_size
    content = {
        "schema": SCHEMA,
        "status": "diverged" if training.diverged else "finished",
        "results": found.plain(),
        "numerics": environment.numerics(training),
        **provenance.described,
        "measured": {
            "started": provenance.started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(training.seconds, 3),
            "train_seconds": round(training.train_seconds, 3),
            "examples_per_second": round(examples / training.train_seconds, 2),
            "peak_memory_bytes": environment.peak_memory(training.device),
            "sessions": training.sessions,
            "threads": torch.get_num_threads(),
            "replicas": training.replicas,
        },
    }
    job.folder.lock.check()
    record = RunRecord.of(finite_or_null(content))
    write_json(job.folder.record, record.plain())
    job.folder.checkpoint.unlink(missing_ok=True)
    return record


def description(spec: RunSpec) -> dict[str, Any]:
    """Return what tables need to know of a run before it has a result."""
    changes = configuration.opt_changes(spec)
    return {
        "run_id": spec.run_id,
        "settings": spec.settings,
        "problem_id": spec.problem_id,
        "opt_default": not changes,
        "opt_changed": changes,
        "opt_label": spec.opt.label,
        "opt_role": spec.opt.role,
        "grid": spec.opt.grid,
    }


def build_task(config: Config) -> "Task":
    """Build the task that the configuration names, fetching its data and weights if need be."""
    from hydra.utils import get_class

    spec = config.spec
    task = get_class(spec.task.target)(spec.task, spec.model, spec.train, config.execution.data)
    if config.execution.export:
        from tasks import export

        export.check(task)
    return task


def results(
    task: "Task", trainings: "Sequence[TrainingState]", execution: Execution
) -> list[Results]:
    """Score both iterates of each run on validation and test, all runs in one pass over the data.

    The iterates' weights are the best by validation afterwards, where the protocol says so. A run
    whose outputs or scores are not finite has diverged, too. Divergence scores as the majority
    class, unless weights from before it were kept.
    """
    with ExitStack() as modes:
        for training in trainings:
            modes.enter_context(training.in_eval_mode())
        return _results(task, trainings, execution)


def _results(
    task: "Task", trainings: "Sequence[TrainingState]", execution: Execution
) -> list[Results]:
    import numpy as np

    from runner.evaluation import evaluate

    found = [_before_evaluation(task, training) for training in trainings]
    networks: dict[tuple[int, str], nn.Module] = {}
    for i, training in enumerate(trainings):
        for name, network in training.iterates.items():
            if name in training.best:
                network.load_state_dict(training.best[name].weights)
            elif training.diverged:
                continue
            networks[i, name] = network
    scores: dict[tuple[int, str], dict[str, float]] = {key: {} for key in networks}
    correct: dict[tuple[int, str], np.ndarray | None] = {}
    kept: dict[tuple[int, str], list[float] | None] = {}
    for split in ("validation", "test") if networks else ():
        answers = evaluate(task, networks, split, execution, trainings[0].device)
        for key, predictions in answers.items():
            scores[key][split] = task.score(split, predictions)
            correct[key] = task.correct(split, predictions)  # of test, which comes last
            kept[key] = task.kept(predictions)
    scored = {
        key
        for key in networks
        if len(scores[key]) == 2 and all(map(isfinite, scores[key].values()))
    }
    for i, _ in networks.keys() - scored:
        trainings[i].diverged = True
    for i, name in scored:
        if trainings[i].diverged and name not in trainings[i].best:
            continue
        for split, score in scores[i, name].items():
            found[i][split][name] = score
        right = correct[i, name]
        if right is not None:
            found[i]["test_correct"][name] = np.packbits(right).tobytes().hex()
        if kept[i, name] is not None:
            found[i].setdefault("test_predictions", {})[name] = kept[i, name]
    return [Results.model_validate(finite_or_null(one)) for one in found]


def _before_evaluation(task: "Task", training: "TrainingState") -> dict[str, Any]:
    """Return the part of a run's results that needs no pass over the data."""
    # DoG's own; other optimizers have nothing to tell.
    diagnose = getattr(training.optimizer, "diagnose", list)
    telemetry = getattr(training.optimizer, "telemetry", list)
    networks = training.iterates
    found: dict[str, Any] = {
        "steps": training.step,
        "train_loss": training.train_loss,
        "train_examples": task.count("train"),
        "trouble": diagnose(),
        "test_correct": {},
    }
    for split in ("validation", "test"):
        majority = task.majority(split)
        scores = {"averaged": None, "majority": majority, **dict.fromkeys(networks, majority)}
        found[split] = {**scores, "examples": task.count(split)}
    if not training.diverged and (diagnostics := task.diagnostics(networks["last"], telemetry())):
        found["facts"] = diagnostics
    if training.best:
        found["checkpoint_steps"] = {name: kept.step for name, kept in training.best.items()}
    return found


def _seed(seed: int) -> None:
    import numpy as np
    import torch

    from runner.batches import seed_for

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
def translate_errors(job: Job) -> Iterator[None]:
    """Turn a full disk into a line of advice, and a crash into failure.json and log.txt."""
    with job.folder.full_disk_said(), _record_crash(job):
        yield


@contextmanager
def _record_crash(job: Job) -> Iterator[None]:
    folder = job.folder
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
        summary = with_type(error)
        with folder.log.open("a", encoding="utf-8") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} crashed\n")
            traceback.print_exception(error, file=log)
        failure = description(job.spec)
        failure |= {"error": summary, "log": folder.log.name}
        write_json(folder.failure, RunFailure.of(failure).plain())
        advice = OUT_OF_MEMORY if type(error).__name__ == "OutOfMemoryError" else ""  # torch's
        raise Crash(f"the run crashed: {summary} (see {folder.log}){advice}") from error
