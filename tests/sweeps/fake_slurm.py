#!/usr/bin/env python3
"""A Slurm of one machine for tests: sbatch, srun, sacct, scancel and scontrol, by this file's name.

It lies in a folder of its own with a link for each command, and keeps what it knows of jobs there:
`<job>.sh`, the script; `<job>_<task>.state`; `.pid`, the process that srun runs; `.again` and
`.cancelled`, what scontrol and scancel were asked.
"""

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).absolute().parent


def sbatch(script):
    # As on a cluster no two have the same: submitit remembers how the job of a number ended.
    job = str(int.from_bytes(os.urandom(5)))
    (HERE / f"{job}.sh").write_text(Path(script).read_text())
    for task in tasks(job)[0]:
        state(job, task, "PENDING")
    supervisor = subprocess.Popen(
        [sys.executable, HERE / "supervise", job],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    (HERE / f"{job}.supervisor").write_text(str(supervisor.pid))
    print(f"Submitted batch job {job}")


def supervise(job):
    """Run the tasks of an array, so many at a time."""
    names, at_a_time = tasks(job)
    with ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(lambda task: run(job, task), names))


def run(job, task):
    """Run a task, again and again while that is asked for."""
    name = f"{job}_{task}" if task else job
    environment = {**os.environ, "SLURM_JOB_ID": job, "SLURM_NTASKS": "1", "FAKE_NAME": name}
    if task:
        environment |= {"SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_ID": task}
    while not (HERE / f"{name}.cancelled").exists():
        (HERE / f"{name}.again").unlink(missing_ok=True)
        state(job, task, "RUNNING")
        with (HERE / f"{name}.out").open("a") as out:
            code = subprocess.run(
                ["bash", HERE / f"{job}.sh"], env=environment, stdout=out, stderr=out, check=False
            ).returncode
        if not (HERE / f"{name}.again").exists():
            break
    cancelled = (HERE / f"{name}.cancelled").exists()
    state(job, task, "CANCELLED by 0" if cancelled else "COMPLETED" if code == 0 else "FAILED")


def srun(*words):
    """Run `python -u -m module ...`, in a process that a warm server forks."""
    import warm

    module = warm.Process(words[words.index("-m") :], cwd=Path.cwd())
    (HERE / f"{os.environ['FAKE_NAME']}.pid").write_text(str(module.pid))
    output, errors = module.communicate()
    print(output, errors, sep="")
    sys.exit(module.returncode if module.returncode >= 0 else 128 - module.returncode)


def sacct(*words):
    print("JobID|State|NodeList")
    for path in sorted(HERE.glob("*.state")):
        if path.name.split("_")[0].removesuffix(".state") in words:
            print(f"{path.stem}|{path.read_text()}|here")


def scancel(*jobs):
    for path in HERE.glob("*.state"):
        if path.stem.split("_")[0] in jobs and path.read_text() in ("PENDING", "RUNNING"):
            path.with_suffix(".cancelled").touch()
            if path.with_suffix(".pid").exists():
                os.kill(int(path.with_suffix(".pid").read_text()), signal.SIGTERM)


def scontrol(verb, name):
    assert verb == "requeue"
    (HERE / f"{name}.again").touch()


def tasks(job):
    """Return the names of an array's tasks, "" for a job that is no array, and how many at once."""
    found = re.search(r"--array=0-(\d+)%(\d+)", (HERE / f"{job}.sh").read_text())
    if not found:
        return [""], 1
    return [str(task) for task in range(int(found[1]) + 1)], int(found[2])


def state(job, task, word):
    path = HERE / (f"{job}_{task}.state" if task else f"{job}.state")
    temporary = path.with_suffix(".new")
    temporary.write_text(word)
    temporary.replace(path)


if __name__ == "__main__":
    globals()[Path(sys.argv[0]).name](*sys.argv[1:])
