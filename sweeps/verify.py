"""Trains archived runs again and says whether they agree with their records."""

import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from runner import config as configuration
from runner.archive import Archive
from runner.command import words_of
from runner.config import Config
from runner.environment import has_gpu
from runner.errors import Crash
from runner.identity import hash_of
from runner.run import run
from runner.run_record import RunRecord
from tasks.errors import UserError

# What two computations of one number may differ by where nothing is random.
ROUNDING = 1e-6
# What is the same, beside scores, where all is equal that can change the last digits.
EXACT = ("train_loss", "test_correct", "test_predictions", "facts", "checkpoint_steps")


@dataclass(frozen=True)
class Verdict:
    """How a run that was trained again compares with its record."""

    run_id: str
    agrees: bool | None  # None: that cannot be said
    reason: str


def report(folder: Path, number: int, draw: int | None, options: Sequence[str]) -> int:
    """Verify so many runs of an archive, print a line for each, and return the exit status.

    `draw` draws the same runs again. `options` are those of `verify`.

    Raises:
        UserError: if there is no run, or an option cannot be read.
    """
    configuration.check_names(options)  # before the archive is read
    records = list(Archive(folder))
    if not records:
        raise UserError(f"no runs in {folder}: name another folder with --archive")
    on_gpu = "device=cpu" not in options and has_gpu()
    here = [record for record in records if record.hardware.device != "cuda" or on_gpu]
    if not here:
        raise UserError(f"all runs in {folder} are of a GPU, and none is used here")
    draw = random.randrange(10**6) if draw is None else draw
    drawn = random.Random(draw).sample(here, min(number, len(here)))
    print(f"{len(drawn)} of {len(here)} archived runs; --draw {draw} draws them again", flush=True)
    if len(here) < len(records):
        print(f"left out: {len(records) - len(here)} of a GPU, as none is used here", flush=True)
    verdicts = []
    for verdict in verify(drawn, records, options):
        name = {True: "agrees", False: "DISAGREES", None: "unknown"}[verdict.agrees]
        print(f"{name:10} {verdict.run_id}: {verdict.reason}", flush=True)
        verdicts.append(verdict.agrees)
    print(f"{verdicts.count(True)} of {len(drawn)} agree")
    return 1 if False in verdicts or True not in verdicts else 0


def verify(
    drawn: Sequence[RunRecord], records: Sequence[RunRecord], options: Sequence[str]
) -> Iterator[Verdict]:
    """Train archived runs again, and yield the verdicts.

    `records` are all of the archive. `options` are overrides that no result depends on: device,
    threads, data_dir.
    """
    for record in drawn:
        with tempfile.TemporaryDirectory(prefix="verify-") as scratch:
            words = ["progress=false", "wandb.mode=disabled", *options, f"runs_dir={scratch}/runs"]
            try:
                again = run(composed(record, words))
            except (UserError, Crash) as error:
                yield Verdict(record.run_id, None, f"cannot be trained here: {error}")
                continue
        yield compared(record, again, spread(record, records))


def composed(record: RunRecord, words: Sequence[str]) -> Config:
    """Return the configuration that gives a record's settings.

    Raises:
        UserError: if this version of the configs gives none.
    """
    try:
        config = configuration.load([*words_of(record), *words])
    except UserError as error:
        raise UserError(f"this version cannot compose it: {error}") from error
    if config.spec.run_id != record.run_id:
        raise UserError("this version has other configs by these names")
    return config


def compared(record: RunRecord, again: RunRecord, allowed: float | None) -> Verdict:
    """Say whether a run that was trained again agrees with its record.

    To the last digit on a CPU, where all is equal that can change it; else the test scores of both
    iterates may differ by `allowed`.
    """
    if record.data_id is not None and again.data_id != record.data_id:
        return Verdict(record.run_id, False, "it has read other data")
    pairs = [
        (getattr(record.results, split), getattr(again.results, split))
        for split in ("validation", "test")
    ]
    # A GPU's kernels may add in another order every time.
    on_cpu = record.hardware.device != "cuda"
    same = on_cpu and record.numerics is not None and record.numerics == again.numerics
    if record.status == again.status and all(was == now for was, now in pairs):
        others = [key for key in EXACT if _differ(record, again, key)]
        if same and others:
            return Verdict(record.run_id, False, f"equal scores, and other {', '.join(others)}")
        return Verdict(record.run_id, True, "equal to the last digit")
    scores = f"test {_shown(record)} was {_shown(again)} again"
    if same:
        return Verdict(record.run_id, False, f"{scores}, with the same versions and processor")
    if allowed is None:
        return Verdict(record.run_id, None, f"{scores}; no other seed says how much that is")
    test, now = record.results.test, again.results.test
    apart = max(
        abs(was - new)
        for was, new in ((test.last, now.last), (test.averaged, now.averaged))
        if was is not None and new is not None
    )
    scale = max(abs(test.last), abs(now.last))
    agrees = record.status == again.status and apart <= allowed + ROUNDING * scale
    how = "within" if agrees else "not within"
    return Verdict(record.run_id, agrees, f"{scores}, {how} the seeds' spread of {allowed:.4g}")


def _differ(record: RunRecord, again: RunRecord, key: str) -> bool:
    """Say whether a part of the results is another one; older records lack some."""
    was, now = (getattr(one.results, key) for one in (record, again))
    return was is not None and was != now


def spread(record: RunRecord, records: Sequence[RunRecord]) -> float | None:
    """Return how far the test scores of a run's problem and optimizer lie apart between seeds.

    That is the range (largest minus smallest, of the last or the averaged iterate, whichever is
    wider) over the other seeds of these settings: with the run's own scores, any would lie within
    it. Where there are fewer than three seeds of them, the
    median range over all settings of the optimizer that have at least two. None: there are none.
    """
    alike: dict[str, list[RunRecord]] = {}
    for other in records:
        if (
            other.run_id != record.run_id
            and other.problem_id == record.problem_id
            and other.data_id == record.data_id
            and other.settings["opt"]["name"] == record.settings["opt"]["name"]
        ):
            alike.setdefault(hash_of(other.settings["opt"]), []).append(other)
    own = alike.get(hash_of(record.settings["opt"]), [])
    if len(own) >= 3:
        return _range(own)
    ranges = [_range(some) for some in alike.values() if len(some) >= 2]
    return median(ranges) if ranges else None


def _range(records: Sequence[RunRecord]) -> float:
    last = [record.results.test.last for record in records]
    averaged = [score for r in records if (score := r.results.test.averaged) is not None]
    return max(max(scores) - min(scores) for scores in (last, averaged or last))


def _shown(record: RunRecord) -> str:
    test = record.results.test
    averaged = "" if test.averaged is None else f", {test.averaged:.6g} averaged"
    return f"{test.last:.6g}{averaged}"
