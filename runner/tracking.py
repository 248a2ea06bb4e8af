"""The one place that knows wandb: a mirror of what metrics.jsonl and record.json hold.

A run never depends on its mirror. A thread of its own speaks to wandb; what fails there, or does
not answer in time, costs a warning, and the run goes on without.
"""

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from tasks.errors import UserError, with_type

if TYPE_CHECKING:
    from runner.run import Job
    from runner.run_record import Results
    from runner.specs import WandbSpec

logger = logging.getLogger(__name__)

# Seconds that wandb's server may take to answer, and that wandb may take to begin and to finish.
ANSWER = 10
PATIENCE = 30.0
# What wandb would gather for each run, in most of a second, and the record tells.
RECORDED = {
    "x_save_requirements": False,
    "disable_git": True,
    "disable_code": True,
}
# What it would watch while a run trains, of a run that has been trained.
WATCHED = {
    "console": "off",
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
}

# What this process does in place of a mode that has failed here.
_instead: dict[str, str] = {}
_absence_said = False


class Tracker:
    """Sends numbers to a wandb run, or nowhere."""

    def __init__(self, open_run: Callable[[], Any] | None = None) -> None:
        """Open the run, if there is a function that does.

        Training begins when it is open: to open it may take numbers from Python's generator.
        """
        self._calls: SimpleQueue[Callable[[Any], object] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        if open_run is not None:
            opened = threading.Event()
            self._thread = threading.Thread(target=self._work, args=(open_run, opened), daemon=True)
            self._thread.start()
            if not opened.wait(PATIENCE):
                self._give_up()

    def log(self, line: Mapping[str, float]) -> None:
        """Log one line of metrics.jsonl at its step."""
        numbers = {name: value for name, value in line.items() if name != "step"}
        self._call(lambda run: run.log(numbers, step=int(line["step"])))

    def summarise(self, results: "Results") -> None:
        """Show the final scores in the run's summary."""
        summary: dict[str, Any] = {
            f"{split}_{iterate}": score
            for split, scores in (("validation", results.validation), ("test", results.test))
            for iterate, score in (("last", scores.last), ("averaged", scores.averaged))
            if score is not None
        }
        summary["trouble"] = "; ".join(results.trouble or ())
        self._call(lambda run: run.summary.update(summary))

    def finish(self, exit_code: int) -> None:
        """End the run, once wandb has all numbers, or time is up."""
        self._call(lambda run: run.finish(exit_code=exit_code))
        self._calls.put(None)
        if (thread := self._thread) is not None:
            thread.join(PATIENCE)
            if thread.is_alive():
                self._give_up()

    def _call(self, call: Callable[[Any], object]) -> None:
        if self._thread is not None:
            self._calls.put(call)

    def _work(self, open_run: Callable[[], Any], opened: threading.Event) -> None:
        try:
            run = open_run()
            opened.set()
            while run is not None and (call := self._calls.get()) is not None:
                call(run)
        except (Exception, SystemExit) as error:
            if self._thread is not None:
                logger.warning("wandb fails (%s): the run goes on without it", with_type(error))
        finally:
            self._thread = None
            opened.set()

    def _give_up(self) -> None:
        """Have no more to do with wandb in this process, nor wait for it at its end."""
        self._thread = None
        _instead.update(online="disabled", offline="disabled")
        logger.warning("wandb does not answer: the run goes on without it")
        with suppress(Exception):  # of a version whose parts have other names
            from wandb.sdk.wandb_setup import singleton

            service: Any = singleton()._connection
            service._proc._process.kill()  # wandb would wait for it when this process exits


@contextmanager
def tracker(job: "Job", trained: bool = False) -> Iterator[Tracker]:
    """Open the run's wandb run, under our id so that a resumed run goes on there; always finish it.

    Raises:
        UserError: if wandb is wanted and not installed.
    """
    wanted = job.execution.wandb
    check(wanted)
    if _mode(wanted) == "disabled":
        yield Tracker()
        return
    tracked = Tracker(lambda: _open(job, trained))
    try:
        yield tracked
    except BaseException:
        tracked.finish(exit_code=1)
        raise
    tracked.finish(exit_code=0)


def check(wanted: "WandbSpec") -> None:
    """See that wandb is installed if it is wanted; if nobody asked for it, do without.

    Raises:
        UserError: if it is not.
    """
    global _absence_said
    if _mode(wanted) == "disabled" or find_spec("wandb") is not None:
        return
    line = "wandb is not installed: pip install wandb, or say wandb.mode=disabled"
    if wanted.mode is not None:
        raise UserError(line)
    _instead.update(online="disabled", offline="disabled")
    logger.warning("%s", line)


def mirror(job: "Job", results: "Results") -> None:
    """Show a run that was trained among others: its metrics.jsonl, and its results."""
    with tracker(job, trained=True) as mirrored:
        for line in job.folder.metrics.read_text().splitlines():
            mirrored.log(json.loads(line))
        mirrored.summarise(results)


def _mode(wanted: "WandbSpec") -> Any:
    """Return the mode that is asked for, or what this process does in its place."""
    mode = wanted.mode or os.environ.get("WANDB_MODE") or "offline"
    while mode in _instead:
        mode = _instead[mode]
    return mode


def _open(job: "Job", trained: bool) -> Any:
    """Return the run that wandb opens: offline if its server cannot be had, None if nothing can."""
    import wandb

    settings: dict[str, Any] = {
        "silent": True,
        "init_timeout": ANSWER,
        "login_timeout": ANSWER,
        "finish_timeout": ANSWER,
        **RECORDED,
    }
    settings |= WATCHED if trained else {}
    known = {key: settings[key] for key in settings if key in wandb.Settings.model_fields}
    spec, wanted = job.spec, job.execution.wandb
    while (mode := _mode(wanted)) != "disabled":
        try:
            return wandb.init(
                project=wanted.project or os.environ.get("WANDB_PROJECT") or "dog-bench",
                entity=wanted.entity,
                mode=mode,
                dir=os.environ.get("WANDB_DIR") or job.folder.path,
                id=spec.run_id,
                name=spec.run_id,
                resume="allow",
                group=spec.task.name,
                job_type=spec.opt.name,
                config=dict(spec.settings),
                settings=wandb.Settings(**known),
            )
        except (Exception, SystemExit) as error:
            _instead[mode] = "offline" if mode == "online" else "disabled"
            without = "offline (wandb sync sends it later)" if mode == "online" else "without it"
            hint = "; `wandb login` logs in" if "api" in str(error).lower() else ""
            reason = f"mode={mode}: {with_type(error)}{hint}"
            logger.warning("wandb does not start (%s): the run goes on %s", reason, without)
            with suppress(Exception):
                wandb.teardown()  # for which the run's id is in use
    return None
