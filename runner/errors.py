"""How a run can end other than with a record. (Bad input is tasks.errors.UserError.)

All of these go from one process to another: pickle calls the class with ``args``, which therefore
are the arguments of the class.
"""

from pathlib import Path

from tasks.errors import UserError


class Stopped(Exception):  # noqa: N818  (no error: the run goes on when it is started again)
    """SIGINT or SIGTERM came; the state is saved, where the optimizer's can be."""

    def __init__(self, signum: int, step: int, resumable: bool = True) -> None:
        super().__init__(signum, step, resumable)
        self.signum = signum

    def __str__(self) -> str:
        _, step, resumable = self.args
        what = "goes on from there" if resumable else "begins anew: the optimizer cannot be resumed"
        return f"stopped at step {step}: the same command {what}"


class Busy(Exception):  # noqa: N818
    """Another process trains this run."""


class DiskFull(UserError):  # noqa: N818
    """There is no room left for a run's files."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)

    def __str__(self) -> str:
        return (
            f"the disk that holds {self.args[0]} is full: free some space and run the same command "
            "again; it goes on from its last checkpoint"
        )


class Crash(Exception):  # noqa: N818
    """The run itself failed; its folder holds failure.json and log.txt."""
