"""Sweeps: planned, run by worker processes, and never done twice."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import process_tree
import pytest
import warm
from conftest import QUIET, ROOT
from omegaconf import OmegaConf

from runner import config
from runner.identity import problem_id, run_id
from runner.run import run as train
from sweeps import plan
from sweeps.worker import work
from tasks.errors import UserError

SWEEP = {
    "parts": [
        {
            "tasks": ["probe_cifar"],
            "optimizers": ["dog", "sgd"],
            "seeds": [0, 1],
            "overrides": ["protocol=smoke"],
            "grids": {"sgd": {"lr": [0.001, 0.1]}},
        }
    ],
}


def changed(**part):
    return {"parts": [{**SWEEP["parts"][0], **part}]}


@pytest.fixture
def sweeps(tmp_path):
    """Write a sweep's yaml and return its path."""

    def write(content):
        OmegaConf.save(OmegaConf.create(content), tmp_path / "small.yaml")
        return str(tmp_path / "small.yaml")

    return write


def load(name, tmp_path, *overrides):
    return plan.load(name, [*QUIET, f"runs_dir={tmp_path}/runs", *overrides])


def test_plan_tunes_each_grid_point_and_reports_what_was_chosen(sweeps, tmp_path):
    sweep = load(sweeps(SWEEP), tmp_path)
    labels = [run.label for run in sweep.tuning()]
    assert labels == [
        "probe_cifar dog seed 100",
        "probe_cifar sgd lr=0.001 seed 100",
        "probe_cifar sgd lr=0.1 seed 100",
    ]
    (problem,) = {run.problem_id for run in sweep.tuning()}
    # The default, and a tuned setting that two rules have chosen.
    chosen = sweep.reporting({(problem, "sgd"): [{}, {"lr": 0.1}, {"lr": 0.1}]})
    assert [run.label for run in chosen] == [
        "probe_cifar dog seed 0",
        "probe_cifar dog seed 1",
        "probe_cifar sgd seed 0",
        "probe_cifar sgd seed 1",
        "probe_cifar sgd lr=0.1 seed 0",
        "probe_cifar sgd lr=0.1 seed 1",
    ]


def test_values_to_vary_are_reported_one_at_a_time_and_never_tuned_on(sweeps, tmp_path):
    vary = {"dog": {"reps_rel": [1e-6, 1e-4], "lr": [2]}}
    sweep = load(sweeps(changed(vary=vary, seeds=[0])), tmp_path)
    assert len(sweep.tuning()) == 3
    assert [run.label for run in sweep.reporting({})] == [
        "probe_cifar dog seed 0",  # reps_rel=1e-4 is this one, and not run again
        "probe_cifar dog reps_rel=1e-06 seed 0",
        "probe_cifar dog lr=2 seed 0",
        "probe_cifar sgd seed 0",
    ]


def test_optimizers_bring_their_own_grids(sweeps, tmp_path):
    part = {k: v for k, v in SWEEP["parts"][0].items() if k != "grids"}
    sweep = load(sweeps({**SWEEP, "parts": [part]}), tmp_path)
    assert len(sweep.tuning()) == 1 + 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part": 1}, "no key part: did you mean parts"),
        ({"parts": []}, "parts=[]: must have at least one entry"),
        ({"parts": [3]}, "parts.0=3: must be a block of keys"),
        ({"parts": [{"tasks": ["cifar"]}]}, "parts.0.optimizers is missing"),
        (changed(tasks=["cifra"]), "no task=cifra"),
        (changed(tasks="cifar"), "parts.0.tasks=cifar: must be a list"),
        (changed(seeds=[100]), "parts.0.seeds.0=100: must be below 100"),
        (
            changed(grids={"sgdd": {"lr": [1]}}),
            "sgdd, which is no optimizer here: did you mean sgd",
        ),
        (changed(grids={"sgd": {"lrr": [1]}}), "opt=sgd has no key lrr: did you mean lr"),
        (changed(grids={"sgd": {"lr": [-1]}}), "opt.lr=-1: must be above 0"),
        (changed(grids={"sgd": {"lr": ["fast"]}}), "opt.lr=fast: must be a number"),
        (changed(grids={"sgd": {"lr": 1}}), "parts.0.grids.sgd.lr=1: must be a list"),
        (
            changed(grids={"sgd": {"lr": [0.1], "momentum": [0.5]}}),
            "opt=sgd: its yaml's grid tunes lr, and no setting would be chosen among runs that "
            "change momentum, too: copy configs/opt/sgd.yaml",
        ),
        (changed(grids={"dog": {"lr": [0.5, 1.0]}}), "opt=dog: its yaml's grid tunes nothing"),
        (changed(overrides=["protocol=smoke", "opt.weight_decay=0.1"]), "change weight_decay, too"),
        (changed(vary={"adam": {"lr": [1]}}), "vary has adam, which is no optimizer here"),
        (changed(vary={"dog": {"reps": [1]}}), "opt=dog has no key reps: did you mean"),
        (changed(vary={"dog": {"reps_rel": 1}}), "parts.0.vary.dog.reps_rel=1: must be a list"),
        (changed(vary=["dog"]), "parts.0.vary=['dog']: must be a block of keys"),
        (changed(overrides=["seed=7"]), "seed=7: a sweep's seeds are those that its yaml lists"),
    ],
)
def test_mistakes_in_a_sweep_are_said(sweeps, tmp_path, change, message):
    with pytest.raises(UserError, match=re.escape(message)):
        load(sweeps({**SWEEP, **change}), tmp_path)


@pytest.mark.parametrize("word", ["task=probe_movies", "opt=adam", "seed=7"])
def test_what_a_sweep_lists_is_no_override(sweeps, tmp_path, word):
    with pytest.raises(UserError, match=f"{word}: a sweep's .* are those that its yaml lists"):
        load(sweeps(SWEEP), tmp_path, word)


def test_parts_have_one_folder_of_runs_as_settings_are_chosen_by_its_runs(sweeps, tmp_path):
    (part,) = SWEEP["parts"]
    other = {**part, "overrides": [*part.get("overrides", []), f"runs_dir={tmp_path}/other"]}
    with pytest.raises(UserError, match="all parts of a sweep have one runs_dir"):
        plan.load(sweeps({"parts": [part, other]}))


def test_broken_yaml_is_said(tmp_path):
    (tmp_path / "broken.yaml").write_text("parts: [")
    with pytest.raises(UserError, match="cannot be read"):
        load(str(tmp_path / "broken.yaml"), tmp_path)


def test_two_data_sets_of_one_problem_are_refused_as_one_would_be_tuned_on_the_other(
    sweeps, tmp_path
):
    paths = [tmp_path / name for name in ("here.csv", "there.csv")]
    parts = []
    for path in paths:
        path.write_text("text,label\n" + f"{path.name} good,yes\nand bad,no\n")
        overrides = [f"task.data.path={path}", f"runs_dir={tmp_path}/runs"]
        part = {"tasks": ["own_texts"], "optimizers": ["dog"], "seeds": [0]}
        parts.append({**part, "overrides": overrides})
    message = f"task=own_texts: task.data.path is {paths[0]} and {paths[1]}, and one sweep tunes"
    for part in parts:
        assert plan.load(sweeps({"parts": [part, part]})).tuning()
    with pytest.raises(UserError, match=re.escape(message)):
        plan.load(sweeps({"parts": parts}))


def test_workers_do_not_outlive_a_driver_that_is_killed(sweeps, tmp_path):
    command = sweep_command(tmp_path, sweeps(SWEEP), *QUIET, "train.steps=100000")
    driver = warm.Process(command)
    while not list(tmp_path.glob("results/runs/*/*/metrics.jsonl")):
        assert driver.poll() is None
        time.sleep(0.05)
    workers = process_tree.below(driver.pid)
    assert workers
    driver.kill()
    driver.wait()
    assert not process_tree.left(workers, seconds=30)
    assert list(tmp_path.glob("results/runs/*/*/checkpoint.pt"))


def sweep_command(tmp_path, *words):
    """A sweep as a process, its results under tmp_path."""
    command = ["scripts/sweep.py", *words, "jobs=2", "wandb.mode=disabled"]
    return [*command, f"runs_dir={tmp_path}/results/runs"]


def records(tmp_path):
    return {path.name: path for path in tmp_path.glob("results/runs/*/*") if finished(path)}


def finished(folder):
    return (folder / "record.json").exists()


@pytest.mark.real_data
def test_interrupted_sweep_goes_on_and_ends_with_the_table(sweeps, tmp_path, real_data):
    real_data("task/cifar", "model/squeezenet")
    small = ["train.train_examples=300", "train.validation_examples=100", "train.steps=300"]
    part = {
        **SWEEP["parts"][0],
        "overrides": ["model=squeezenet", "train.test_examples=200", *small],
    }
    command = sweep_command(tmp_path, sweeps({**SWEEP, "parts": [part]}))
    began = warm.Process(command)
    while not records(tmp_path):
        assert began.poll() is None
        time.sleep(0.02)
    began.send_signal(signal.SIGTERM)
    assert began.wait(timeout=60) == 130
    before = {name: (p / "record.json").stat().st_mtime_ns for name, p in records(tmp_path).items()}
    assert 1 <= len(before) < 7

    again = warm.run(command, check=True)
    after = records(tmp_path)
    for name, written in before.items():
        assert (after[name] / "record.json").stat().st_mtime_ns == written
    # 3 that tune; on 2 seeds DoG, SGD's default (which is on its grid) and what was chosen.
    assert len(after) in (7, 9)
    assert "| DoG " in again.stdout and "instance-tuned" in again.stdout
    assert (tmp_path / "results" / "records.csv").exists()
    assert list((tmp_path / "results" / "figures").glob("*.svg"))


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="torch is asked for the GPU's name")
def test_planning_needs_no_torch_which_takes_seconds_to_import(tmp_path):
    code = (
        "import runpy, sys\n"
        f"sys.argv = {sweep_command(tmp_path, 'demo', '--dry-run')!r}\n"
        "try:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally:\n"
        "    print('imported:', sorted({'torch', 'torchvision', 'timm'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "imported: []"


@pytest.mark.parametrize("words", ["dry_run=true", "--dry-run"])
def test_dry_run_shows_the_cost_and_starts_nothing(tmp_path, words):
    done = warm.run(sweep_command(tmp_path, "demo", words), check=True)
    assert "tuning: 33 runs, 0 done before" in done.stdout
    assert "\ntime: " in done.stdout and "\ndisk: " in done.stdout
    assert not list(tmp_path.glob("**/record.json"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dmo"], "no sweep=dmo: did you mean demo"),
        (["demo", "jobs=0"], "jobs=0: must be a whole number above 0"),
        (["demo", "jobs=2", "executor=ray"], "jobs= is for executor=local"),
        (["demo", "executor=slum"], "no executor=slum: did you mean slurm"),
        (
            ["demo", "executor=ray", "executor.cpu=2"],
            "executor=ray has no key cpu: did you mean cpus",
        ),
        ([], "name one sweep"),
    ],
)
def test_bad_input_is_one_line_and_status_2(words, message):
    done = warm.run(["scripts/sweep.py", *words])
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("of_plan", [False, True])
def test_status_counts_runs_by_task_and_optimizer(sweeps, tmp_path, of_plan):
    words = [f"sweep={sweeps(SWEEP)}", *QUIET] if of_plan else []
    runs = load(sweeps(SWEEP), tmp_path).tuning()
    for run in runs[:2]:
        train(run.config)
    runs[2].folder.make()
    done = warm.run(["scripts/status.py", *words, f"runs_dir={tmp_path}/runs"], check=True)
    tuning = done.stdout.partition("\n\n")[0].splitlines()
    lines = {tuple(line.split()[:2]): line.split()[2:] for line in tuning}
    missing = ["0"] if of_plan else []
    assert lines["probe_cifar", "dog"] == ["1", "0", "0", "0", "0", *missing]
    assert lines["probe_cifar", "sgd"] == ["1", "0", "0", "1", "0", *missing]
    if of_plan:
        assert "tuning: 2 of 3 runs done" in done.stdout
        assert "time left: " in done.stdout
        assert " for 5 runs, if " in done.stdout  # one, and the 4 that are reported


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lite", "sweep=demo"], "name one sweep or none, not lite and demo"),
        (["seed=3"], "seed=3: without a sweep there is nothing to give but runs_dir="),
    ],
)
def test_status_refuses_what_it_would_ignore(words, message):
    done = warm.run(["scripts/status.py", *words])
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_damaged_record_is_trained_anew_by_the_sweep(sweeps, tmp_path):
    run, *_ = load(sweeps(SWEEP), tmp_path).tuning()
    run.folder.make()
    run.folder.record.write_text('{"status": "fin')
    assert not run.done
    (outcome,) = work((run,), threads=1)
    assert outcome.status == "finished" and run.done
    assert "record.json is damaged" in run.folder.log.read_text()


@pytest.mark.parametrize(
    ("opt", "key"), [("sgd", "lr"), ("sgd", "clip_norm"), ("dog", "init_eta"), ("sgd", "warmup")]
)
def test_planned_run_is_the_run_that_its_configuration_names(sweeps, tmp_path, opt, key):
    """A whole number in a yaml is the fraction that it is when typed, null by default or not."""
    part = {**SWEEP["parts"][0], "optimizers": [opt], "grids": {}, "vary": {opt: {key: [1]}}}
    *_, planned = load(sweeps({**SWEEP, "parts": [part | {"seeds": [0]}]}), tmp_path).reporting({})
    settings = planned.config.spec.settings
    assert run_id(settings) == planned.run_id
    assert problem_id(settings) == planned.problem_id
    words = ["task=probe_cifar", f"opt={opt}", f"opt.{key}=1", "seed=0", "protocol=smoke"]
    assert run_id(config.load([*words, *QUIET]).spec.settings) == planned.run_id
