"""The one place that knows wandb: a mirror of what metrics.jsonl and record.json hold."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import UserError

if TYPE_CHECKING:
    from runner.run import Job

logger = logging.getLogger(__name__)


class Tracker:
    """Sends numbers to a wandb run, or nowhere."""

    def __init__(self, run: Any = None) -> None:
        self.run = run

    def log(self, line: Mapping[str, float]) -> None:
        """Log one line of metrics.jsonl at its step."""
        if self.run is not None:
            self.run.log({k: v for k, v in line.items() if k != "step"}, step=int(line["step"]))

    def summarise(self, results: Mapping[str, Any]) -> None:
        """Show the final scores in the run's summary."""
        if self.run is not None:
            for split in ("validation", "test"):
                for iterate in ("last", "averaged"):
                    self.run.summary[f"{split}_{iterate}"] = results[split][iterate]
            self.run.summary["trouble"] = "; ".join(results["trouble"])


@contextmanager
def tracker(
    options: Mapping[str, Any], settings: Mapping[str, Any], run_id: str, folder: Path
) -> Iterator[Tracker]:
    """Open the run's wandb run, under our id so that a resumed run goes on there; always finish it.

    Raises:
        UserError: if wandb is wanted and not installed, or does not answer.
    """
    if options["mode"] == "disabled":
        yield Tracker()
        return
    wandb = _wandb()
    try:
        run = wandb.init(
            project=options["project"],
            entity=options["entity"],
            mode=options["mode"],
            dir=folder,
            id=run_id,
            name=run_id,
            resume="allow",
            group=settings["task"]["name"],
            job_type=settings["opt"]["name"],
            config=dict(settings),
            settings=wandb.Settings(silent=True),
        )
    except wandb.errors.Error as error:
        raise UserError(
            f"wandb does not start ({error}): log in with `wandb login`, or say wandb.mode=offline"
        ) from error
    try:
        yield Tracker(run)
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


def check(options: Mapping[str, Any]) -> None:
    """See that wandb is installed if it is wanted.

    Raises:
        UserError: if it is not.
    """
    if options["mode"] != "disabled":
        _wandb()


def mirror(job: "Job", results: Mapping[str, Any]) -> None:
    """Show a run that was trained among others: its metrics.jsonl, and its results."""
    options = job.config.wandb
    if options.mode == "disabled":
        return
    try:
        with tracker(options, job.settings, job.identity, job.folder.path) as mirrored:
            for line in job.folder.metrics.read_text().splitlines():
                mirrored.log(json.loads(line))
            mirrored.summarise(results)
    except UserError as error:  # of the mirror alone: the run is done
        logger.warning("%s: %s", job.identity, error)


def _wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            "wandb is not installed: pip install wandb, or say wandb.mode=disabled"
        ) from error
    return wandb
