"""Configurations: composed, checked, and named by what a result depends on."""

import copy
import resource
import shutil
import subprocess
import sys
from typing import Annotated

import pytest
import warm
from conftest import ROOT

from runner import config, identity
from runner.schedule import factor
from runner.specs import OptimizerSpec
from tasks.data.blocks import OF_LOOP
from tasks.errors import UserError


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=cifra"], "no task=cifra: did you mean cifar"),
        (["opt=dgo"], "no opt=dgo: did you mean dog"),
        (["task=_probe"], "no task=_probe: did you mean probe_"),
        (["opt=zzzz"], "choose from adagrad_norm, adam, adam_pp"),
        (["model=squeznet"], "did you mean squeezenet"),
        (["protocol=papre"], "did you mean paper"),
        (["opt.rps_rel=1"], "no key opt.rps_rel: did you mean opt.reps_rel"),
        (["lr=1"], "no key lr: did you mean opt.lr"),
        (["opt=sgd", "opt.lr=fast"], "opt.lr=fast: must be a number"),
        (["opt=sgd", "opt.lr=-0.1"], "opt.lr=-0.1: must be above 0"),
        (["opt=sgd", "opt.lr=inf"], "opt.lr=inf: must be a finite number"),
        (["opt=sgd", "opt.lr=nan"], "opt.lr=nan: must be a finite number"),
        (["opt=sgd", "opt.lr=null"], "opt.lr=null: must be set"),
        (["opt.reps_rel=0"], "opt.reps_rel=0: must be above 0"),
        (["opt.weight_decay=-1"], "must not be below 0"),
        (["train.steps=1.5"], "train.steps=1.5: must be a whole number"),
        (["train.steps=0"], "train.steps=0: must be above 0"),
        (["train.steps=true"], "must be a whole number"),
        (["task.synthetic=3"], "must be true or false"),
        (["model.batch_norm=off"], "must be one of frozen, train"),
        (["device=gpu"], "must be one of auto, cpu, cuda"),
        (["seed=-1"], "seed=-1: must not be below 0"),
        (["opt.name=foo"], "opt.name is not to be changed"),
        (["opt._target_=torch.optim.Adam"], "not to be changed"),
        (["model.weights.source.sha256=abc"], "not to be changed"),
        (["~seed"], "not to be changed"),
        (["task=cifar", "model=minilm"], "model=minilm is for language tasks"),
        (["task=movies", "model=squeezenet"], "model=squeezenet is for vision tasks"),
        (["task=cola", "task.data.hub.revision=main"], "not to be changed"),
        (["task=cola", "task.prompt=x"], "not to be changed"),
        (["task=cola", "model.forms.classification=x"], "not to be changed"),
        (["train.validation_examples=null"], "must be set"),
        (["train.checkpoint=last"], "train.checkpoint=last: must be one of best"),
        (["threads=1.5"], "threads=1.5: must be a whole number"),
        (["wandb.entity=5"], "wandb.entity=5: must be a text"),
        (["runs_dir=null"], "runs_dir=null: must be set"),
        (["opt=adam", "opt.warmup=2"], "at most 1"),
        (["opt=glob(*)"], "list the names"),
        (["opt.init_eta=-1"], "opt.init_eta=-1: must be above 0"),
        (["task=cifar", "nonsense"], "nonsense cannot be read: what is to be set is key=value"),
        (["opt=["], "opt=[ cannot be read: "),
        (["xyzzy=1"], "no key xyzzy: `python run.py --cfg job` shows all"),
        (["stepz=7"], "no key stepz: did you mean synthetic.steps or train.steps or "),
        (["+train.stepz=7"], "no key train.stepz: did you mean train.steps"),
        (["+train={stepz: 7}"], "no key train.stepz: did you mean train.steps"),
        (["+train.clip_norm=1"], "no key train.clip_norm: did you mean opt.clip_norm"),
        (["+seeds=7"], "no key seeds: did you mean seed"),
        (["+protocol.vision.clip_nrom=1"], "did you mean protocol.vision.clip_norm"),
        (["+protocol.tasks.cifar={stepz: 7}"], "no key protocol.tasks.cifar.stepz"),
        (["+model.crop_pctt=1"], "did you mean model.crop_pct"),
        (["+task.prompt=x"], "not to be changed"),
        (["task=movies", "train.image_size=96"], "train.image_size=96 is for vision tasks, and"),
        (["task=movies", "train.augment=crop"], "task=movies is a language task: leave it out"),
        (["task=probe_cifar", "train.max_tokens=9"], "is for language tasks"),
        (["task=logistic_digits", "train.test_examples=9"], "says nothing to task=logistic_digits"),
        (["task=divergence_example", "train.train_examples=9"], "it has no such examples"),
        (["opt=adam", "opt.betas=[0.9]"], "opt.betas=[0.9]: must be a list of 2 values"),
        (["opt=adam", "opt.betas=[0.9,0.99,0.5]"], "must be a list of 2 values"),
        (["opt=adam", "opt.betas=0.9"], "opt.betas=0.9: must be a list of 2 values"),
        (["opt=adam", "opt.betas=[0.9,a]"], "opt.betas=a: must be a number"),
        (["opt=adamg", "opt.betas=[0.9,0.99]"], "must be a list of 3 values"),
        (["opt=adam", "protocol.vision.adam_betas=[0.9]"], "must be a list of 2 values"),
        (["opt=adam", "protocol.vision.adam_betas=[0.9,0.9,0.9]"], "must be a list of 2 values"),
        (["task=probe_cifar", "model.batch_norm=train"], "and task=probe_cifar trains none"),
    ],
    ids=str,
)
def test_bad_input_is_refused_in_one_line_that_says_what_to_do(overrides, message):
    with pytest.raises(UserError) as refusal:
        config.load(overrides)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "words", [["task=cifra"], ["train.steps=x"], ["opt.lr=-1"], ["-m", "oct=dog"]]
)
def test_command_line_answers_bad_input_within_two_seconds_with_status_2(words, tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "run.py", *words, f"runs_dir={tmp_path}/runs"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time: another job on this machine must not fail the test.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_traceback():
    done = warm.run(["run.py", "debug=true", "task=cifra"])
    assert done.returncode == 2 and "Traceback" in done.stderr


def name_of(*overrides):
    return config.load(overrides).spec.run_id


@pytest.mark.parametrize(
    "word",
    [
        "+opt.nesterov=true",  # arguments of the class, and of the function
        "+model.arguments.drop_rate=0.1",
        "+model.crop_pct=0.8",  # as in yamls of other networks and protocols
        "+protocol.tasks.fashion_mnist.steps=7",
        "+synthetic.warmup=0.1",
    ],
)
def test_keys_that_are_read_although_the_yamls_lack_them_can_be_added(word):
    assert name_of(word, "opt=sgd", "task.synthetic=true")


@pytest.mark.parametrize(("group", "of"), [("opt", "sgd"), ("task", "cifar"), ("model", "minilm")])
def test_copied_yaml_with_the_name_of_the_first_is_refused(group, of, tmp_path, monkeypatch):
    """The class is no part of a run's id: stored runs of the first were shown as the copy's."""
    shutil.copytree(config.CONFIGS, tmp_path / "configs")
    folder = tmp_path / "configs" / group
    shutil.copy(folder / f"{of}.yaml", folder / "mine.yaml")
    monkeypatch.setattr(config, "CONFIGS", tmp_path / "configs")
    monkeypatch.setattr(config, "_parts", {})
    monkeypatch.setattr(config, "_known", {})
    monkeypatch.setattr(config, "_latest", None)
    task = ["task=movies"] if group == "model" else []
    with pytest.raises(UserError, match=f"{group}/mine.yaml says name: {of}, and must say"):
        config.load([*task, f"{group}=mine"])
    text = (folder / "mine.yaml").read_text().replace(f"name: {of}", "name: mine")
    (folder / "mine.yaml").write_text(text)
    monkeypatch.setattr(config, "_parts", {})
    assert getattr(config.load([*task, f"{group}=mine"]).spec, group).name == "mine"


def test_run_id_depends_on_what_the_result_depends_on():
    changes = ["seed=1", "opt=ldog", "opt.reps_rel=1e-3", "train.steps=9", "protocol=smoke"]
    changes += ["model=squeezenet", "model.batch_norm=train", "task=fashion_mnist"]
    changes += ["train.precision=bf16", "task.synthetic=true", "train.averaging_gamma=4"]
    names = [name_of(), *(name_of(change) for change in changes)]
    assert len(set(names)) == len(names)


def test_run_id_depends_on_nothing_else():
    changes = ["device=cpu", "workers=2", "threads=1", "log_every=1", "runs_dir=elsewhere"]
    changes += ["wandb.mode=disabled", "debug=true", "task.data.path=here", "opt.label=mine"]
    assert {name_of(change) for change in changes} == {name_of()}


def test_run_ids_stay_what_they_are():
    # If this fails, every finished run would be trained again: give the new option null as the
    # default that means the old behaviour, or raise the version of the task or protocol.
    assert name_of() == "cifar-dog-a5112e49eb"
    assert name_of("task=movies", "opt=ldog") == "movies-ldog-6fff39d04f"


def test_whole_numbers_and_fractions_name_the_same_run():
    for key in ("lr", "clip_norm"):
        assert name_of("opt=sgd", f"opt.{key}=1") == name_of("opt=sgd", f"opt.{key}=1.0")


def test_grid_gives_arguments_that_only_the_class_knows_the_type_of_their_default():
    run = config.load(["opt=sgd", "+opt.dampening=0.5"])
    assert type(run.changed({"dampening": 1}, 0).spec.settings["opt"]["dampening"]) is float
    with pytest.raises(UserError, match="dampening=much: must be a number"):
        run.changed({"dampening": "much"}, 0)


class WithRestarts(OptimizerSpec):
    """An optimizer whose step size the training loop would also restart."""

    restarts: Annotated[int, OF_LOOP] = 0


def test_what_the_training_loop_does_is_no_argument_of_an_optimizers_class():
    spec = config.load(["opt=sgd"]).spec.opt
    assert {"lr", "momentum", "weight_decay"} <= set(spec.arguments) < set(spec.scientific)
    restarted = WithRestarts.parse({**spec.plain(), "restarts": 3})
    assert restarted.scientific["restarts"] == 3 and restarted.arguments == spec.arguments


def test_new_option_that_is_null_leaves_the_id_alone():
    settings = copy.deepcopy(config.load([]).spec.settings)  # which other runs share
    before = identity.run_id(settings)
    settings["train"]["new_option"] = None
    assert identity.run_id(settings) == before
    settings["train"]["new_option"] = False
    assert identity.run_id(settings) != before


def test_problem_id_is_shared_by_optimizers_and_seeds_alone():
    def problem(*overrides):
        return identity.problem_id(config.load(overrides).spec.settings)

    assert problem() == problem("opt=adam", "opt.lr=1", "seed=3")
    assert len({problem(), problem("train.steps=9"), problem("protocol=smoke")}) == 3


@pytest.mark.parametrize(
    ("protocol", "task", "dog", "ldog"),
    [
        ("lite", "cifar", 1e-4, 1e-4),
        ("lite", "movies", 1e-4, 1e-4),
        ("paper", "cifar", 1e-4, 1e-4),
        ("paper", "movies", 1e-6, 1e-8),
        ("paper", "probe_newsgroups", 1e-6, 1e-8),
    ],
)
def test_initial_movement_is_the_protocols_for_the_domain(protocol, task, dog, ldog):
    for opt, expected in (("dog", dog), ("ldog", ldog)):
        loaded = config.load([f"protocol={protocol}", f"task={task}", f"opt={opt}"])
        assert loaded.spec.opt.reps_rel == expected
        assert config.opt_changes(loaded.spec) == {}


def test_optimizer_changes_are_those_from_its_defaults():
    loaded = config.load(["opt=sgd", "opt.lr=0.1", "task.synthetic=true", "protocol=paper"])
    assert config.opt_changes(loaded.spec) == {"lr": 0.1}
    assert config.opt_changes(config.load(["opt=sgd", "opt.lr=0.001"]).spec) == {}


def test_an_optimizer_that_is_told_the_number_of_steps_is_not_changed_by_another_number():
    loaded = config.load(["opt=tdog", "train.steps=7", "opt.reps_rel=0.1"])
    assert loaded.spec.opt.steps == 7
    assert config.opt_changes(loaded.spec) == {"reps_rel": 0.1}


def test_a_tasks_own_entry_in_the_protocol_comes_before_its_budgets_and_its_domains():
    own = ["+protocol.tasks.cifar={steps: 7, clip_norm: null}", "+protocol.vision.clip_norm=2.0"]
    loaded = config.load(["protocol=paper", "opt=sgd", *own])
    assert (
        loaded.spec.train.steps == 7 and loaded.spec.opt.clip_norm is None
    )  # null is an answer, too
    assert loaded.spec.train.batch_size == loaded.spec.protocol.vision.batch_size
    probe = config.load(["protocol=paper", "task=probe_newsgroups", "opt=adam"])
    assert probe.spec.train.steps == probe.spec.protocol.probe.steps
    assert (
        probe.spec.opt.betas == probe.spec.protocol.language.adam_betas
    )  # of the domain: probes have none


def test_batch_norm_is_frozen_in_short_protocols_and_trained_in_the_papers():
    modes = [
        config.load([f"protocol={p}"]).spec.model.batch_norm for p in ("smoke", "lite", "paper")
    ]
    assert modes == ["frozen", "frozen", "train"]


def test_cosine_schedule_goes_from_one_towards_zero_after_the_warm_up():
    assert factor(0, 100, "cosine", 0.0) == 1.0
    assert factor(50, 100, "cosine", 0.0) == pytest.approx(0.5)
    assert 0 < factor(99, 100, "cosine", 0.0) < 0.001
    rising = [factor(step, 100, "cosine", 0.1) for step in range(11)]
    assert rising == sorted(rising) and rising[0] == pytest.approx(1 / 11) and rising[10] == 1.0
    assert {factor(step, 10, "constant", 0.0) for step in range(10)} == {1.0}
