"""The notes of a comparison: what its runs cost here, and how often its results were looked at."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from runner.config import Config
from runner.identity import hash_of
from runner.record import write_json
from sweeps import executors, plan
from sweeps.design import Times
from sweeps.executors.specs import ExecutorSpec
from sweeps.progress import plain
from tasks.data.storage import RUNS_DIR, locked, staging_folder, translate_os_errors
from tasks.errors import UserError

# Steps of a run that is timed, and how many examples at most it validates on, and tests on.
TIMED, SCORED = 10, 500


@dataclass(frozen=True)
class Notebook:
    """What must be the same when the command is given again: times, and looks at results.

    It is a file beside the folder of runs, one for each data set and network.
    """

    path: Path

    @classmethod
    def of(cls, config: Config) -> "Notebook":
        """Return the notebook of these data and this network."""
        return cls(folder_of(config).with_suffix(".json"))

    def read(self) -> dict[str, Any]:
        """Return what was noted.

        Raises:
            UserError: if it cannot be read: without it looks would count anew, and intervals be
                narrower than they may.
        """
        try:
            found = json.loads(self.path.read_text())
            return {"times": dict(found["times"]), "looks": dict(found["looks"])}
        except (FileNotFoundError, NotADirectoryError):
            return {"times": {}, "looks": {}}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.path} is damaged, which says how often results were looked at: restore it, "
                "or delete it if this comparison has given no answer so far"
            ) from error

    @contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        """Give what was noted, to be changed; no other process notes anything meanwhile."""
        with translate_os_errors(self.path.parent, RUNS_DIR), locked(self.path, "write notes"):
            yield (content := self.read())
            write_json(self.path, content)

    def times(self, config: Config, chosen: ExecutorSpec) -> Times | None:
        """Return what runs cost on this processor, if that is noted."""
        noted = self.read()["times"].get(_place(config, chosen))
        return Times(**noted) if noted else None

    def measure_times(self, config: Config, chosen: ExecutorSpec, scored: int) -> Times:
        """Time runs, and note it; what is noted stays if it is faster: no other work slowed it.

        `scored` is how many examples a run of the comparison validates and tests on.
        """
        place = _place(config, chosen)
        print(f"timing {TIMED} steps on {place}", file=sys.stderr, flush=True)
        times, noted = time_runs(config, chosen, scored), self.times(config, chosen)
        if noted and noted.step <= times.step:
            return noted
        with self._changed() as content:
            content["times"][place] = asdict(times)
        return times

    def look(self, problem_id: str, seeds: int, whole_grids: bool) -> int:
        """Note a look at the results of so many seeds, and of so much tuning.

        Returns which look at this problem's results it is, the first 1, however often it is taken.
        """
        look = [seeds, whole_grids]
        with self._changed() as content:
            looks: list[list[Any]] = content["looks"].setdefault(problem_id, [])
            if look not in looks:
                looks.append(look)
        return looks.index(look) + 1


def folder_of(config: Config) -> Path:
    """Return where a comparison's page is: what differs in data or weights is another one."""
    spec = config.spec
    name = hash_of({"problem": spec.problem_id, "local_copies": spec.local_copies})
    return config.execution.runs.parent / "comparisons" / name


def _place(config: Config, chosen: ExecutorSpec) -> str:
    """Return where runs are trained, and how many at once."""
    processor = executors.processor(chosen, config.execution.device)
    return f"{processor}, {executors.slots(chosen)} at once"


def time_runs(config: Config, chosen: ExecutorSpec, scored: int) -> Times:
    """Train a few steps of some runs as the comparison will train them; return what they took.

    As many at once, as they wait for each other. Two for each worker, and the faster half counts:
    in its first, a worker imports what it needs. Of many examples to score, a part is. Nothing is
    kept.

    Raises:
        UserError: if one cannot be trained.
    """
    slots, timing = executors.slots(chosen), config.execution.runs.parent / "timing"
    with ExitStack() as held:
        with translate_os_errors(timing.parent, RUNS_DIR):
            held.enter_context(locked(timing, "time runs"))  # two at once would slow each other
            folder = held.enter_context(staging_folder(timing)) / "runs"
        train = config.spec.train
        train = train.replaced(
            steps=TIMED,
            eval_every=TIMED,
            validation_examples=min(train.validation_examples or SCORED, SCORED),
            test_examples=min(train.test_examples or SCORED, SCORED),
        )
        short = Config(
            config.spec.replaced(train=train), config.execution.replaced(runs_dir=str(folder))
        )
        cell = plan.Cell(short, {}, {}, [])
        with executors.running(chosen, folder) as executor:
            for seed in range(2 * slots):
                executor.submit((cell.run({}, seed),))
            outcomes = sorted(executor.results(), key=lambda outcome: outcome.seconds)[:slots]
        records = []
        for outcome in outcomes:
            if (record := outcome.run.folder.read_record()) is None:
                raise UserError(f"{outcome.status}: {plain(outcome.detail)}")
            records.append(record)
    seconds = fmean(record.measured.seconds for record in records)
    training = fmean(record.measured.train_seconds or 0.0 for record in records)
    results = records[0].results
    part = results.validation.examples + results.test.examples
    return Times(
        start=max(0.0, fmean(outcome.seconds for outcome in outcomes) - seconds),
        step=training / TIMED,
        scoring=max(0.0, seconds - training) * max(1.0, scored / part),
        train_examples=results.train_examples,
    )
