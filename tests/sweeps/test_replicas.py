"""Replicas: runs trained together give the records that they give alone."""

import json
import resource
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from conftest import QUIET
from hydra.utils import get_object

from runner import config
from runner.run import Job, build_task, prepare_training
from runner.single_run import SingleRun
from runner.specs import OptimizerSpec
from sweeps import plan
from sweeps.replicas import Replica, ReplicaGroup, run_together
from sweeps.stack import Stack, groups_are_independent, sharing
from sweeps.worker import work

DOG = {"dog": {"reps_rel": [1e-4, 1e-2]}, "ldog": {"weight_decay": [0.0, 0.01]}}
GRIDS = {"sgd": {"lr": [0.1, 1.0]}, "adam": {"lr": [0.01]}, "sgd_momentum": {"lr": [0.1]}, **DOG}
# They sum gradients by BLAS, which may sum otherwise where memory begins elsewhere.
BY_BLAS = {name: {"weight_decay": [0.0, 0.1]} for name in ("prodigy", "dadapt_adam")}
FEW = {"sgd": {"lr": [0.1, 1.0]}, "adam": {"lr": [0.01]}, "dog": {}}
STEPS = ["train.steps=40", "train.eval_every=15", "checkpoint_seconds=1000"]


@pytest.fixture(autouse=True)
def one_thread():
    """As in a worker; sums come out otherwise with more."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def planned(folder, *overrides, task="probe_cifar", seeds=(0, 1), grids=GRIDS):
    """Every point of the grids on every seed."""
    keys = [*QUIET, *STEPS, *overrides, f"runs_dir={folder}"]
    runs = []
    for opt, grid in grids.items():
        composed = config.load([f"task={task}", f"opt={opt}", *keys])
        cell = plan.Cell(composed, grid, {}, list(seeds))
        runs += [cell.run(point, seed) for seed in seeds for point in plan.points(grid)]
    return runs


@pytest.fixture(scope="module")
def trained_alone(tmp_path_factory):
    """A function that plans runs as `planned` does, each of which some test has trained alone.

    They lie in one folder, so that none is trained twice.
    """
    folder = tmp_path_factory.mktemp("alone")

    def train_alone(*overrides, **parts):
        runs = planned(folder, *overrides, **parts)
        alone(runs)
        return runs

    return train_alone


def alone(runs):
    return [outcome for run in runs for outcome in work((run,), 1)]


def ends(runs):
    """What is left of each run, without what differs between two equal runs."""
    found = {}
    for run in runs:
        record = json.loads(run.folder.record.read_text())
        record = {name: record[name] for name in record if name not in ("measured", "code")}
        found[run.run_id] = record, run.folder.metrics.read_text()
    return found


def assert_equal(runs, others):
    these, those = ends(runs), ends(others)
    assert these.keys() == those.keys()
    for name in these:
        assert these[name] == those[name], name


@pytest.mark.parametrize(
    ("task", "grids", "overrides"),
    [
        ("probe_cifar", GRIDS | {"adamw": {}, "tdog": {"lipschitz": [0.0, 1.0]}}, []),
        ("probe_cifar", FEW, ["train.checkpoint=best", "opt.clip_norm=0.5"]),
        ("probe_newsgroups", FEW, ["train.batch_size=48"]),  # summed otherwise from 16 classes on
        ("probe_cifar", BY_BLAS, []),
        ("logistic_wine", {"dog": {}, "sgd": {"lr": [0.1, 1.0]}}, []),
        ("divergence_example", {"dog": {}, "ldog": {}}, ["task.dimension=40"]),
    ],
)
def test_each_has_the_record_that_it_has_alone(task, grids, overrides, tmp_path, trained_alone):
    together = planned(tmp_path / "together", *overrides, task=task, grids=grids)
    assert {outcome.status for outcome in work(tuple(together), 1)} == {"finished"}
    assert_equal(together, trained_alone(*overrides, task=task, grids=grids))
    counts = {json.loads(run.folder.record.read_text())["measured"]["replicas"] for run in together}
    assert counts == {len(together)}


def test_one_that_diverges_leaves_the_others_alone(tmp_path, trained_alone):
    grids = {"sgd": {"lr": [0.1, 1e30]}, "adam": {"lr": [0.01]}, "ldog": {}}
    together = planned(tmp_path, "opt.weight_decay=0.1", grids=grids)
    statuses = [outcome.status for outcome in work(tuple(together), 1)]
    assert statuses.count("diverged") == 2 and statuses.count("finished") == 6
    assert_equal(together, trained_alone("opt.weight_decay=0.1", grids=grids))


@pytest.mark.parametrize(("leaving", "steps"), [(1, (0,)), (8, (0, 11)), (8, (11, 12))])
def test_who_meets_a_gradient_that_is_not_finite_goes_on_alone(
    leaving, steps, tmp_path, monkeypatch, trained_alone
):
    grids = {"sgd": {"lr": [0.1]}, "adam": {"lr": [0.01]}, "dog": {}, "ldog": {}}
    words = ["opt.schedule=cosine", "opt.warmup=0.2"]
    together = planned(tmp_path, *words, grids=grids)
    backward, left = ReplicaGroup._backward, []

    def broken(self, batches):
        found = backward(self, batches)
        if found or len(left) == leaving or self.step not in steps:
            return found
        left.append(self.replicas[0].place)
        return self.replicas[:1]

    with monkeypatch.context() as patch:
        patch.setattr(ReplicaGroup, "_backward", broken)
        work(tuple(together), 1)
    assert_equal(together, trained_alone(*words, grids=grids))
    assert len(left) == (leaving if leaving == 1 else 8)
    for run in together:
        measured = json.loads(run.folder.record.read_text())["measured"]
        assert 0 < measured["train_seconds"] <= measured["seconds"]


class Interrupted:
    """Sends this process a signal after a step."""

    def __init__(self, monkeypatch, step):
        update = ReplicaGroup.update

        def interrupted(together):
            update(together)
            if together.step == step:
                signal.raise_signal(signal.SIGTERM)

        monkeypatch.setattr(ReplicaGroup, "update", interrupted)


def test_stopped_replicas_go_on_together_or_alone_from_where_each_is(
    tmp_path, monkeypatch, trained_alone
):
    runs = planned(tmp_path)
    with monkeypatch.context() as patch:
        Interrupted(patch, step=17)
        assert {outcome.status for outcome in work(tuple(runs), 1)} == {"stopped"}
    assert all(run.folder.checkpoint.exists() for run in runs)
    alone(runs[:2])
    runs[2].folder.checkpoint.unlink()  # this one has to start anew
    with monkeypatch.context() as patch:
        Interrupted(patch, step=30)
        outcomes = work(tuple(runs[1:]), 1)
    # A signal is for all, whatever step they are at.
    assert sorted({outcome.status for outcome in outcomes}) == ["finished", "stopped"]
    assert [o.status for o in outcomes].count("finished") == 1  # it had been by itself
    assert {outcome.status for outcome in work(tuple(runs), 1)} == {"finished"}
    assert_equal(runs, trained_alone())
    assert not list(tmp_path.glob("*/*/checkpoint.pt"))


def test_one_that_another_process_has_is_left_to_it(tmp_path):
    runs = planned(tmp_path, grids={"sgd": {"lr": [0.1, 1.0]}})
    runs[0].folder.make()
    with runs[0].folder.lock:
        outcomes = work(tuple(runs), 1)
    statuses = {outcome.run.run_id: outcome.status for outcome in outcomes}
    assert statuses.pop(runs[0].run_id) == "busy"
    assert set(statuses.values()) == {"finished"}


def test_a_process_of_many_replicas_may_open_as_many_files_as_the_system_allows(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, before[1]), before[1]))
    try:
        runs = planned(tmp_path, grids={"sgd": {"lr": [0.1, 1.0]}})
        assert {outcome.status for outcome in work(tuple(runs), 1)} == {"finished"}
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_fault_of_the_whole_group_is_no_run_s_fault(tmp_path, monkeypatch, trained_alone):
    runs = planned(tmp_path, grids=FEW)

    def broken(*arguments):
        raise RuntimeError("out of memory, perhaps")

    with monkeypatch.context() as patch:
        patch.setattr(ReplicaGroup, "update", broken)
        assert {outcome.status for outcome in work(tuple(runs), 1)} == {"finished"}
    assert "out of memory, perhaps" in runs[0].folder.log.read_text()
    assert_equal(runs, trained_alone(grids=FEW))


def test_optimizer_is_shared_only_where_its_groups_do_not_touch_each_other(tmp_path):
    def key(*words):
        composed = config.load(["task=probe_cifar", *QUIET, f"runs_dir={tmp_path}", *words])
        job = Job.of(composed)
        task = build_task(composed)
        return sharing(job, prepare_training(job, task, torch.device("cpu")))

    assert key("opt=sgd") == key("opt=sgd", "opt.lr=3", "seed=2")
    assert key("opt=sgd") != key("opt=adam")
    # What a T-DoG promises for is the whole object's.
    assert key("opt=tdog") == key("opt=tdog", "opt.reps_rel=0.1")
    assert key("opt=tdog") != key("opt=tdog", "opt.delta=0.1")


class SharesANumber(torch.optim.Optimizer):
    """An optimizer whose step size comes from all its groups' gradients, as Prodigy's does."""

    def __init__(self, params, lr=1e-3):
        super().__init__(params, {"lr": lr})
        self.distance = 1e-3

    @torch.no_grad()
    def step(self):
        parameters = [p for group in self.param_groups for p in group["params"]]
        self.distance += 1e-3 * float(sum(p.grad.norm() for p in parameters))
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad, alpha=group["lr"] * self.distance)


def with_class(config, kind):
    """The run with another class of optimizer, whose one argument is lr."""
    ours = ("name", "label", "grid", "independent_groups", "schedule", "warmup", "clip_norm", "lr")
    opt = {key: value for key, value in config.spec.opt.plain().items() if key in ours}
    opt = OptimizerSpec.parse({**opt, "_target_": f"{__name__}.{kind.__name__}"})
    return replace(config, spec=config.spec.replaced(opt=opt))


def test_optimizer_that_shares_a_number_among_its_groups_is_not_shared(tmp_path, caplog):
    grids = {"sgd": {"lr": [0.1, 0.2]}}
    runs = {}
    for name in ("together", "alone"):
        cells = planned(tmp_path / name, grids=grids)
        runs[name] = [with_class(run.config, SharesANumber) for run in cells]
    together = dict(run_together(runs["together"]))
    alone = [dict(run_together([one]))[0] for one in runs["alone"]]
    for place, record in enumerate(alone):
        assert together[place].results == record.results
    (line,) = [line for line in caplog.messages if "independent_groups" in line]
    assert line.startswith("opt=sgd: ")


@pytest.mark.parametrize("opt", config.options("opt"))
def test_groups_are_independent_where_the_yaml_says_so(opt):
    """The contract of every yaml, a copied one too."""
    spec = config.load(["task=probe_cifar", f"opt={opt}"]).spec.opt
    if spec.independent_groups:
        assert groups_are_independent(get_object(spec.target), spec.arguments)


def test_replicas_do_not_go_on_from_checkpoints_of_other_data_or_weights(tmp_path, monkeypatch):
    runs = planned(tmp_path, grids=FEW, seeds=[0])
    with monkeypatch.context() as patch:
        Interrupted(patch, step=5)
        work(tuple(runs), 1)
    assert all(run.folder.checkpoint.exists() for run in runs)
    monkeypatch.setattr(config, "sources_of", lambda _: {"weights": "me/net@another commit"})
    assert {outcome.status for outcome in work(tuple(runs), 1)} == {"finished"}
    sessions = [json.loads(run.folder.record.read_text())["measured"]["sessions"] for run in runs]
    assert set(sessions) == {1}


def test_checkpoint_is_as_small_as_that_of_a_run_alone(tmp_path, monkeypatch):
    runs = planned(tmp_path, grids={"sgd": {"lr": [0.1 * i for i in range(1, 9)]}}, seeds=[0])
    one, *others = runs
    for group in ((one,), tuple(others)):
        with monkeypatch.context() as patch:
            Interrupted(patch, step=5)
            # Of the one that trains by itself.
            patch.setattr(SingleRun, "log", lambda *_: signal.raise_signal(signal.SIGTERM))
            work(group, 1)
    sizes = [run.folder.checkpoint.stat().st_size for run in runs]
    assert max(sizes) < 1.1 * sizes[0]


def test_gradients_are_computed_at_once_where_that_changes_no_bit(tmp_path):
    composed = config.load(["task=probe_cifar", *QUIET, f"runs_dir={tmp_path}"])
    task, job = build_task(composed), Job.of(composed)
    trainings = [prepare_training(job, task, torch.device("cpu")) for _ in range(3)]
    generator = torch.Generator().manual_seed(0)
    for training in trainings:
        for p in training.network.parameters():
            p.data.normal_(generator=generator)
    batch = task.batch("train", torch.arange(8))

    def gradients(stack):
        assert stack.backward(*batch).all()
        return [p.grad.clone() for t in trainings for p in t.network.parameters()]

    stack = Stack(task, trainings)
    stack._compared = True
    separate = gradients(stack)
    agree = stack._same_when_joined(*batch)
    stack._join()
    together = gradients(stack)
    for one, other in zip(together, separate, strict=True):
        torch.testing.assert_close(one, other)
    assert agree == all(map(torch.equal, together, separate))
    trainings[1].network.weight.data[0, 0] += 1.0  # a slice of what is computed with
    assert not torch.equal(gradients(stack)[2], together[2])
    assert torch.equal(gradients(stack)[0], together[0])


def test_seeds_are_waited_for_once_a_step(tmp_path, monkeypatch):
    runs = planned(tmp_path, "train.steps=3", seeds=(0, 1, 2), grids={"sgd": {"lr": [0.1]}})
    read, read_in_step, backward = [], [], ReplicaGroup._backward
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: read.append(len(t)) or tolist(t))

    def count(self, batches):
        read.clear()
        broken = backward(self, batches)
        read_in_step.append(list(read))
        return broken

    monkeypatch.setattr(ReplicaGroup, "_backward", count)
    assert {outcome.status for outcome in work(tuple(runs), 1)} == {"finished"}
    assert read_in_step == [[3]] * 3


def test_finite_loss_ends_a_series_of_lost_ones_that_a_run_had_before(tmp_path):
    """As of a run that trained alone, was stopped and goes on as a replica."""
    runs, cpu = planned(tmp_path, grids={"sgd": {"lr": [0.1, 1.0]}}, seeds=[0]), torch.device("cpu")
    task = build_task(runs[0].config)
    jobs = [Job.of(run.config) for run in runs]
    states = [prepare_training(job, task, cpu) for job in jobs]
    states[0].lost = torch.tensor(9)
    replicas = [
        Replica(place, job, state, None)
        for place, (job, state) in enumerate(zip(jobs, states, strict=True))
    ]
    group = ReplicaGroup(replicas, task)
    group.compute_gradients([task.batch("train", torch.arange(8))])
    assert int(states[0].lost) == 9  # it may still leave, and go on alone
    group.update()
    assert [int(state.lost) for state in states] == [0, 0]


def test_run_that_leaves_after_its_folder_was_removed_stops_no_other(tmp_path, monkeypatch):
    grids, backward = {"sgd": {"lr": [0.1, 1e30]}}, ReplicaGroup._backward
    runs = planned(tmp_path, "opt.weight_decay=0.1", grids=grids)

    def remove_folders(self, batches):
        for replica in (broken := backward(self, batches)):
            shutil.rmtree(replica.job.folder.path)
        return broken

    monkeypatch.setattr(ReplicaGroup, "_backward", remove_folders)
    statuses = {outcome.run.run_id: outcome.status for outcome in work(tuple(runs), 1)}
    assert [statuses[run.run_id] for run in runs] == 2 * ["finished", "busy"]
    assert not any(run.folder.path.exists() for run in runs[1::2])


def test_networks_that_draw_random_numbers_are_refused(tmp_path):
    composed = config.load(["task=probe_cifar", *QUIET, f"runs_dir={tmp_path}"])
    training = prepare_training(Job.of(composed), build_task(composed), torch.device("cpu"))
    training.network = torch.nn.Sequential(training.network, torch.nn.Dropout(0.1))
    with pytest.raises(ValueError, match="cannot be replicas"):
        Stack(None, [training])


def test_groups_are_as_many_as_workers_and_share_batches(tmp_path):
    runs = planned(
        tmp_path, seeds=range(4), grids={"sgd": {"lr": [0.1, 1.0]}, "adam": {}, "dog": {}}
    )
    groups = plan.grouped(runs, slots=2)
    assert [len(group) for group in groups] == [8, 8]
    assert [{run.config.spec.seed for run in group} for group in groups] == [{0, 1}, {2, 3}]
    (only,) = plan.grouped(runs[:15], slots=8)  # too few for a second process
    assert {run.run_id for run in only} == {run.run_id for run in runs[:15]}
    assert max(len(group) for group in plan.grouped(runs, slots=2, largest=3)) == 3
    assert plan.grouped(runs, slots=2, largest=1) == [(run,) for run in runs]


def test_divided_seed_leaves_each_part_every_optimizer(tmp_path):
    runs = planned(
        tmp_path,
        seeds=[100],
        grids={"sgd": {"lr": list(range(1, 11))}, "adam": {"lr": list(range(1, 11))}},
    )
    for group in plan.grouped(runs, slots=2):
        optimizers = [run.optimizer for run in group]
        assert optimizers.count("sgd") == optimizers.count("adam") == 5


def test_runs_that_differ_in_more_than_optimizer_and_seed_are_no_group(tmp_path):
    grids = {"sgd": {"lr": [0.1, 1.0]}}
    runs = planned(tmp_path, grids=grids) + planned(tmp_path, "log_every=4", grids=grids)
    assert [len(group) for group in plan.grouped(runs, slots=1)] == [4, 4]
    with pytest.raises(ValueError, match="differ in optimizer and seed alone"):
        list(run_together([run.config for run in runs]))


def test_other_tasks_train_alone(tmp_path):
    runs = planned(tmp_path, task="cifar", grids={"sgd": {"lr": [0.1, 1.0]}})
    assert plan.grouped(runs, slots=2) == [(run,) for run in runs]
