"""Executors: on each the same runs give the same records, whatever happens to a worker."""

import contextlib
import json
import math
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import process_tree
import psutil
import pytest
import warm
from conftest import LONG_ONLY, QUIET, ROOT
from omegaconf import OmegaConf

from runner import config, environment
from runner.lock import RunLock
from runner.run import run as train
from sweeps import executors, plan
from sweeps.executors import local
from sweeps.executors.base import Executor
from sweeps.options import executor_of
from sweeps.request import read_request
from sweeps.worker import Outcome
from tasks.errors import UserError

SWEEP = {
    "parts": [
        {
            "tasks": ["divergence_example"],  # whose processes import least
            "optimizers": ["dog", "sgd"],
            "seeds": [0],
            "overrides": ["protocol=smoke", "train.eval_every=1000000", "task.dimension=800"],
            "grids": {"sgd": {"lr": [0.001, 0.1]}},
        }
    ],
}
SLOW = ["train.steps=800", "checkpoint_seconds=0.05"]


def tuning(folder, *overrides):
    """The runs that the sweep tunes on: one of DoG, two of SGD."""
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(SWEEP), folder / "sweep.yaml")
    words = [*QUIET, f"runs_dir={folder}/runs", *overrides]
    return plan.load(str(folder / "sweep.yaml"), words).tuning()


def content(run):
    """A run's record and metrics, without what differs between two equal runs."""
    record = json.loads(run.folder.record.read_text())
    kept = {k: v for k, v in record.items() if k not in ("measured", "code")}
    return kept, run.folder.metrics.read_text()


def sessions(run):
    return json.loads(run.folder.record.read_text())["measured"]["sessions"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What the runs come to in this process: three short ones, and a long one of DoG."""
    folder = tmp_path_factory.mktemp("undisturbed")
    short, long = tuning(folder), tuning(folder, *SLOW)[:1]
    for run in [*short, *long]:
        train(run.config)
    return {run.run_id: content(run) for run in [*short, *long]}


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of this machine, its head a node that trains nothing."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A Slurm of this machine; its folder, where it keeps scripts and states."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    source = Path(__file__).with_name("fake_slurm.py")
    for name in ("sbatch", "supervise", "srun", "sacct", "scancel", "scontrol"):
        shutil.copy(source, folder / name)
        (folder / name).chmod(0o755)
    python = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{folder}:{python}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{warm.ROOT / 'tests'}")
    monkeypatch.setenv("WARM_SERVER", warm.address())
    yield folder
    for path in folder.glob("*.pid"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(path.read_text()), signal.SIGKILL)


@pytest.fixture(autouse=True)
def _forked_workers(monkeypatch):
    """Local workers come from a process that has imported torch, so that they are there at once."""
    warm.forks_workers()
    forked = multiprocessing.get_context("forkserver")
    monkeypatch.setattr(local.multiprocessing, "get_context", lambda _: forked)


@pytest.fixture
def start(request, tmp_path, monkeypatch):
    """A function that starts each kind of executor in turn, with the words that are given."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = {
        "local": ["executor.workers=2"],
        "ray": ["executor=ray"],
        "slurm": ["executor=slurm", "executor.poll_seconds=0.2"],
        "slurm_local": ["executor=slurm", "executor.cluster=local", "executor.poll_seconds=0.2"],
    }[request.param]
    if request.param == "ray":
        words.append(f"executor.address={request.getfixturevalue('cluster').address}")
    if request.param == "slurm":
        request.getfixturevalue("slurm")
    return starter(words, tmp_path)


def starter(words, tmp_path):
    def start(*more):
        return executors.start(executors.settings([*words, *more]), tmp_path / "runs")

    return start


def outcomes(executor, *groups):
    """Submit the groups and return the outcomes by run."""
    for group in groups:
        executor.submit(group)
    return {outcome.run.run_id: outcome for outcome in executor.results()}


class When(threading.Thread):
    """Does something as soon as it is time, while the test waits for results."""

    def __init__(self, condition, action):
        super().__init__(daemon=True)
        self.condition, self.action, self.over = condition, action, threading.Event()
        self.did = False

    def run(self):
        while not self.over.is_set():
            if self.condition():
                self.action()
                self.did = True
                return
            time.sleep(0.02)

    def __enter__(self):
        self.start()

    def __exit__(self, *_):
        self.over.set()
        self.join()


def trainer(run):
    """The process that writes a run's metrics."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(Path(file.path) == run.folder.metrics for file in process.open_files()):
                return process
    return None


def signal_trainer(run, number):
    """Send a signal to the process that trains a run, if one does by now."""
    process = trainer(run)
    assert process is not None and process.pid != os.getpid()
    process.send_signal(number)


# Jobs of Ray and of submitit's local cluster start Python anew, which takes seconds each time.
def always_on(*names):
    """Test on these executors, and on the others where there is time."""
    others = sorted({"local", "ray", "slurm", "slurm_local"} - {*names})
    params = [*names, *(pytest.param(name, marks=LONG_ONLY) for name in others)]
    return pytest.mark.parametrize("start", params, indirect=True)


@always_on("local", "slurm")
def test_all_runs_get_the_records_of_plain_runs_and_one_that_fails_stops_no_other(
    start, tmp_path, undisturbed
):
    runs = tuning(tmp_path)
    # A file where one run's folder should be.
    runs[0].folder.path.parent.mkdir(parents=True)
    runs[0].folder.path.touch()
    with start() as executor:
        ended = outcomes(executor, runs[:1], runs[1:])
    assert ended[runs[0].run_id].status == "failed"
    assert "cannot use the folder" in ended[runs[0].run_id].detail and not runs[0].done
    for run in runs[1:]:
        assert ended[run.run_id].status == "finished"
        assert math.isfinite(ended[run.run_id].score)
        assert content(run) == undisturbed[run.run_id]


@always_on("local", "slurm", "slurm_local")
def test_cancelled_runs_are_saved_and_go_on_from_there(start, tmp_path, undisturbed, request):
    alone = request.node.callspec.params["start"] == "slurm_local"  # a job starts Python twice
    run, *others = tuning(tmp_path, *SLOW)[: 1 if alone else 2]

    def all_that_began_train():
        begun = [run, *(one for one in others if one.folder.path.exists())]
        return all(one.folder.metrics.exists() for one in begun)

    with start() as executor, When(all_that_began_train, executor.cancel):
        ended = outcomes(executor, (run,), *((other,) for other in others))
    assert ended[run.run_id].status == "stopped"
    assert run.folder.checkpoint.exists() and not run.done
    # What began long before it may have come to its end; what had not begun has no outcome.
    began = [one for one in others if one.run_id in ended]
    assert all(ended[one.run_id].status == "stopped" or one.done for one in began), ended
    assert not any(one.folder.path.exists() for one in others if one not in began)
    assert trainer(run) is None
    train(run.config)
    assert content(run) == undisturbed[run.run_id] and sessions(run) == 2


@always_on("local", "slurm")
def test_group_of_a_killed_worker_is_tried_again_without_what_is_done(start, tmp_path, undisturbed):
    (short, *_), (long, *_) = tuning(tmp_path), tuning(tmp_path, *SLOW)
    with (
        start("executor.retries=1") as executor,
        When(long.folder.checkpoint.exists, lambda: signal_trainer(long, signal.SIGKILL)) as _,
    ):
        ended = outcomes(executor, (short, long))
    assert {outcome.status for outcome in ended.values()} == {"finished"}
    assert sessions(short) == 1 and sessions(long) == 2
    for run in (short, long):
        assert content(run) == undisturbed[run.run_id]


def test_run_whose_workers_keep_dying_has_failed_and_stops_no_other(tmp_path):
    (long, *_), (_, *others) = tuning(tmp_path, *SLOW), tuning(tmp_path)
    with (
        starter([], tmp_path)("executor.workers=2", "executor.retries=0") as executor,
        When(long.folder.checkpoint.exists, lambda: signal_trainer(long, signal.SIGKILL)),
    ):
        ended = outcomes(executor, (long,), *((other,) for other in others))
    assert ended.pop(long.run_id).status == "failed"
    assert {outcome.status for outcome in ended.values()} == {"finished"}


def test_worker_process_whose_group_ended_in_an_exception_is_replaced(tmp_path):
    engine = local.LocalEngine(executors.settings(["executor.workers=1"]), tmp_path)
    slot = engine._idle.pop()
    pool, failed = slot.pool, Future()
    failed.set_exception(RuntimeError("CUDA has failed"))
    engine._training[failed] = slot, ()
    assert list(engine.ended()) == [((), "RuntimeError: CUDA has failed")]
    assert slot.pool is not pool and engine.room == 1
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(os.getpid)


def test_two_drivers_on_one_plan_share_the_runs_and_both_get_all_outcomes(tmp_path):
    plans = [tuning(tmp_path, "train.steps=200") for _ in range(2)]
    ended = [{}, {}]

    def drive(number):
        with starter([], tmp_path)("executor.workers=2") as executor:
            ended[number] = outcomes(executor, *((run,) for run in plans[number]))

    drivers = [threading.Thread(target=drive, args=(number,)) for number in range(2)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    for one in ended:
        assert [one[run.run_id].status for run in plans[0]] == ["finished"] * 3
    assert [sessions(run) for run in plans[0]] == [1, 1, 1]
    # Trained once: one of each pair of outcomes tells of another's record.
    assert len(list(tmp_path.glob("runs/*/*/record.json"))) == 3


def test_run_that_another_process_leaves_without_a_record_is_trained_here(tmp_path, caplog):
    run, *_ = tuning(tmp_path)
    run.folder.make()
    lock = RunLock(run.folder.lock.path)
    lock.acquire()
    with (
        starter([], tmp_path)("executor.workers=1") as executor,
        When(lambda: "waited for" in caplog.text, lock.release),
    ):
        ended = outcomes(executor, (run,))
    assert ended[run.run_id].status == "finished" and run.done


def test_waiting_for_another_process_can_be_interrupted(tmp_path, caplog):
    run, *_ = tuning(tmp_path)
    run.folder.make()
    with (
        RunLock(run.folder.lock.path),
        starter([], tmp_path)("executor.workers=1") as executor,
        When(lambda: "waited for" in caplog.text, executor.cancel),
    ):
        assert outcomes(executor, (run,)) == {}


def test_gpus_are_shared_out_among_the_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    words = ["executor.gpu_share=0.5"]
    with starter(words, tmp_path)() as executor:
        assert executor.slots == 4
    with starter(words, tmp_path)("executor.workers=1", "executor.gpus=1") as executor:
        slot = executor._engine._idle[0]
        assert slot.pool.submit(os.getenv, "CUDA_VISIBLE_DEVICES").result() == "3"
    assert local._devices(None, 0.5) == ["3", "5", "3", "5"]
    assert local._devices(1, 1.0) == ["3"]
    assert local._devices(0, 1.0) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "NoDevFiles")  # as Slurm says that there are none
    assert local._devices(None, 1.0) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with pytest.raises(UserError, match="gpus=3: there are 2 here"):
        local._devices(3, 1.0)


class Held:
    """An engine whose runs another process holds when they are first tried."""

    slots, room = 1, 100

    def __init__(self):
        self.groups, self.started, self.tried = [], [], set()

    def start(self, groups):
        self.groups += groups
        self.started += groups

    def ended(self):
        groups, self.groups = self.groups, []
        for group in groups:
            names = {run.run_id for run in group}
            status = "busy" if self.tried.isdisjoint(names) else "finished"
            self.tried |= names
            yield group, [Outcome(run, status, 1.0) for run in group]


@pytest.mark.parametrize(("largest", "groups"), [(1, [1, 1, 1, 1, 1, 1]), (2, [2, 1, 2, 1])])
def test_runs_that_others_held_are_tried_in_groups_of_the_size_that_was_asked_for(
    largest, groups, tmp_path
):
    loaded = config.load([*QUIET, "task=probe_cifar", f"runs_dir={tmp_path}"])
    cell, engine = plan.Cell(loaded, {}, {}, []), Held()
    executor = Executor(engine, retries=0)
    runs = [cell.run({}, seed) for seed in range(3)]
    for place in range(0, 3, largest):
        executor.submit(tuple(runs[place : place + largest]))
    assert {outcome.status for outcome in executor.results()} == {"finished"}
    assert sorted(map(len, engine.started)) == sorted(groups)


def test_gpus_do_not_count_for_runs_on_the_cpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(local, "usable_cores", lambda: 64)
    of_sweep, of_comparison = (
        executor_of({}, on_cpu=True),
        read_request(["data=x", "device=cpu"]),
    )
    assert executors.slots(of_sweep) == executors.slots(of_comparison.executor) == 64
    assert executors.slots(executor_of({"jobs": "2"}, on_cpu=True)) == 2
    assert executors.slots(executor_of({}, on_cpu=False)) == 1


def test_runs_are_estimated_by_the_cpu_where_no_gpu_is_asked_for(monkeypatch):
    monkeypatch.setattr(environment, "processor", lambda device: device)
    chosen = executors.settings(["executor.gpus=0"])
    assert executors.processor(chosen, "auto") == "cpu"
    assert executors.processor(executors.settings([]), "auto") == "auto"


def test_gpus_are_found_without_cuda(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert local._devices(None, 1.0) == []
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 0; echo 1\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert local._devices(None, 1.0) == ["0", "1"]
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho no driver; exit 9\n")
    assert local._devices(None, 1.0) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["executor=slum"], "no executor=slum: did you mean slurm"),
        (["executor.worker=2"], "executor=local has no key worker: did you mean workers"),
        (["executor=ray", "executor._target_=x"], "executor=ray has no key _target_"),
        (["executor.workers=two"], "executor.workers=two: must be a whole number"),
        (["executor.workers=0"], "executor.workers=0: must be above 0"),
        (["executor.gpus=0.5"], "executor.gpus=0.5: must be a whole number"),
        (["executor=ray", "executor.cpus=0"], "executor.cpus=0: must be above 0"),
        (["executor=ray", "executor.address=7"], "executor.address=7: must be a text"),
        (["executor=slurm", "executor.setup=module"], "executor.setup=module: must be a list"),
        (["executor=slurm", "executor.cluster=pbs"], "must be one of slurm, local"),
        (["executor=slurm", "executor.setup=[a"], "executor.setup=.a cannot be read"),
    ],
)
def test_bad_settings_are_said(words, message):
    with pytest.raises(UserError, match=message):
        executors.settings(words)


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_missing_extra_is_said_with_what_to_install(name, package, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, f"sweeps.executors.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"package {package}.*pip install .* -e '.\[{name}\]'"):
        executors.start(executors.settings([f"executor={name}"]), tmp_path)


def test_without_slurm_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no Slurm here"):
        executors.start(executors.settings(["executor=slurm"]), tmp_path)


def test_slurm_is_told_what_the_settings_say(slurm, tmp_path):
    runs = tuning(tmp_path)
    words = ["executor=slurm", "executor.poll_seconds=0.2", "executor.partition=gpu"]
    words += ["executor.account=dog", "executor.minutes=30", "executor.memory_gb=4"]
    words += ["executor.array_parallelism=2", "executor.signal_seconds=60"]
    words += ["executor.setup=[export FROM_SETUP=1]"]
    with starter(words, tmp_path)() as executor:
        ended = outcomes(executor, *((run,) for run in runs))
    assert {outcome.status for outcome in ended.values()} == {"finished"}
    (script,) = slurm.glob("*.sh")
    lines = script.read_text().splitlines()
    for option in (
        *("array=0-2%2", "partition=gpu", "account=dog", "time=30", "mem=4GB", "cpus-per-task=1"),
        *("signal=USR2@60", "requeue", "open-mode=append"),
    ):
        assert f"#SBATCH --{option}" in lines
    assert not any("gpus" in line or "qos" in line for line in lines)
    assert lines.index("export FROM_SETUP=1") < next(
        number for number, line in enumerate(lines) if line.startswith("srun ")
    )
    # Folders of runs are two deep; submitit's files are not, and not taken for runs.
    assert not [path for path in tmp_path.glob("runs/.slurm-*/*") if path.is_dir()]
    # A job of a later sweep finds no result of one that had its number.
    with starter(words, tmp_path)() as executor:
        outcomes(executor, (runs[0],))
    assert len(list(tmp_path.glob("runs/.slurm-*"))) == 2


def test_slurm_job_whose_time_is_up_saves_and_is_queued_again(slurm, tmp_path, undisturbed):
    # It is the signal that makes it save, within a step: no checkpoint is due.
    run, *_ = tuning(tmp_path, *SLOW, "checkpoint_seconds=1000")
    words = ["executor=slurm", "executor.poll_seconds=0.2", "executor.retries=0"]
    with (
        starter(words, tmp_path)() as executor,
        When(lambda: trains(run), lambda: signal_trainer(run, signal.SIGUSR2)),
    ):
        ended = outcomes(executor, (run,))
    assert ended[run.run_id].status == "finished"
    assert content(run) == undisturbed[run.run_id] and sessions(run) == 2
    (log,) = (path.read_text() for path in slurm.glob("*.out"))
    assert "Requeued job" in log


def trains(run):
    """Whether a run is past its first steps."""
    return run.folder.metrics.exists() and run.folder.metrics.read_bytes().count(b"\n") > 5


def test_ray_node_that_is_killed_takes_no_run_with_it(cluster, tmp_path, undisturbed):
    run, *_ = tuning(tmp_path, *SLOW)
    other, *_ = tuning(tmp_path)
    words = ["executor=ray", f"executor.address={cluster.address}"]

    def kill_its_node():
        process = trainer(run)
        # A machine that is lost takes its processes along; here they live on until they miss their
        # raylet, long enough to end the run.
        process.suspend()
        (node,) = (
            node
            for node in cluster.worker_nodes
            if process.ppid() == node.all_processes["raylet"][0].process.pid
        )
        cluster.remove_node(node, allow_graceful=False)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()

    with (
        starter(words, tmp_path)() as executor,
        When(run.folder.checkpoint.exists, kill_its_node),
    ):
        assert executor.slots == 2
        ended = outcomes(executor, (run,), (other,))
    assert {outcome.status for outcome in ended.values()} == {"finished"}
    assert content(run) == undisturbed[run.run_id] and sessions(run) == 2
    assert content(other) == undisturbed[other.run_id]


def test_interrupted_sweep_on_a_ray_of_its_own_saves_and_leaves_no_process(tmp_path):
    tuning(tmp_path)
    command = ["scripts/sweep.py", f"{tmp_path}/sweep.yaml", "executor=ray"]
    command += [*QUIET, "train.steps=9000", "task.dimension=9000", f"runs_dir={tmp_path}/runs"]
    driver = warm.Process(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    while not list(tmp_path.glob("runs/*/*/metrics.jsonl")):
        assert driver.poll() is None
        time.sleep(0.05)
    below = process_tree.below(driver.pid)
    driver.send_signal(signal.SIGTERM)
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 130, errors
    assert list(tmp_path.glob("runs/*/*/checkpoint.pt"))
    assert below and not process_tree.left(below, seconds=60)


def test_unreachable_ray_cluster_is_said(tmp_path):
    words = ["executor=ray", "executor.address=127.0.0.1:1"]
    with pytest.raises(UserError, match=r"cannot reach the Ray cluster 127\.0\.0\.1:1"):
        starter(words, tmp_path)()
