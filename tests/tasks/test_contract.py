"""Every task that configs/ holds keeps the contract, on made-up problems."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from conftest import with_changes
from omegaconf import OmegaConf

from runner import config
from runner.run import build_task, run
from runner.yamls import read_yaml
from tasks.data.readers import DataSet, Examples
from tasks.errors import UserError
from tasks.specs import TrainSpec
from tasks.task import split

TASKS = config.options("task")
PROTOCOLS = config.options("protocol")
FORMS = ["movies", "newsgroups", "mnli", "stsb", "squad", "probe_newsgroups"]
# What a text-to-text network is asked of; and a probe of one.
LANGUAGE = [task for task in TASKS if "prompt" in read_yaml(config.CONFIGS / f"task/{task}.yaml")]
LANGUAGE += ["probe_newsgroups"]
# One task of each kind of problem, and so of code that makes data, networks and losses of it.
KINDS = ["cifar", "cifar_scratch", "probe_cifar", *FORMS, "logistic_wine", "divergence_example"]
# These learn; the others, which differ from one of them in what their yaml says, take two steps.
LEARNT = [*KINDS, "cola", "mrpc", "cifar100"]  # those added: two more metrics, a hundred classes
VISION_MODELS = [
    model
    for model in config.options("model")
    if read_yaml(config.CONFIGS / f"model/{model}.yaml")["for_domain"] == "vision"
]


def made_up(task, *overrides):
    return config.load(
        [f"task={task}", "task.synthetic=true", "wandb.mode=disabled", "progress=false", *overrides]
    )


@cache
def built(task):
    """A task with its data in memory: the same one for all tests of this process."""
    of_images = made_up(task).spec.task.domain == "vision"
    return build_task(made_up(task, *["train.augment=flip"] * of_images))


def trained(task, steps, folder):
    """The record of a run by the default protocol."""
    words = ["opt=adam", "opt.lr=0.01", f"train.steps={steps}", f"train.eval_every={steps}"]
    record = run(made_up(task, *words, "log_every=1", f"runs_dir={folder}")).plain()
    assert record["settings"]["protocol"]["name"] == "lite" and record["status"] == "finished"
    return record


@pytest.mark.parametrize("task", [task for task in TASKS if task not in LEARNT])
def test_every_task_trains_by_the_default_protocol(task, tmp_path):
    scores = trained(task, 2, tmp_path)["results"]["test"]
    assert np.isfinite([scores["last"], scores["averaged"], scores["majority"]]).all()


@pytest.mark.parametrize("task", LEARNT)
def test_every_kind_of_problem_learns_by_the_default_protocol(task, tmp_path):
    record = trained(task, 30, tmp_path)
    (metrics,) = tmp_path.glob("*/*/metrics.jsonl")
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 30
    if task != "divergence_example":  # which is made so that Adam's loss never falls
        assert np.mean(losses[-5:]) < 0.995 * np.mean(losses[:5])
    scores, majority = record["results"]["test"], record["results"]["test"]["majority"]
    if record["settings"]["task"]["metric"] in ("matthews", "f1"):
        assert scores["last"] > majority and scores["averaged"] > majority


@pytest.mark.parametrize("task", KINDS)
def test_every_kind_of_problem_trains_by_the_papers_protocol(task, tmp_path):
    record = run(made_up(task, "protocol=paper", f"runs_dir={tmp_path}"))
    assert_scored(record.plain())


def assert_scored(record):
    """A run has come to its end, and its scores are such as its metric can be."""
    assert record["status"] == "finished" and record["results"]["steps"] == 8
    assert record["settings"]["protocol"] == {"name": "paper", "version": 2}
    correlation = record["settings"]["task"]["metric"] in ("matthews", "pearson")
    for part in ("validation", "test"):
        for iterate in ("last", "averaged"):
            score = record["results"][part][iterate]
            bounded = record["settings"]["task"]["higher_is_better"]
            assert -correlation <= score and (score <= 1 or not bounded)


@pytest.mark.parametrize("model", VISION_MODELS)
def test_other_models_fit_the_vision_tasks(model, tmp_path):
    record = run(made_up("fashion_mnist", f"model={model}", f"runs_dir={tmp_path}")).plain()
    assert record["settings"]["model"]["name"] == model


@pytest.mark.parametrize("task", FORMS)
@pytest.mark.parametrize("model", ["minilm", "roberta_base", "t5_base"])
def test_every_language_model_trains_every_form_of_texts_and_answers(task, model, tmp_path):
    words = ["protocol=paper", "train.steps=2", f"runs_dir={tmp_path}"]
    record = run(made_up(task, f"model={model}", *words)).plain()
    assert record["settings"]["model"]["name"] == model and record["status"] == "finished"


@pytest.mark.parametrize("task", [task for task in LANGUAGE if task not in FORMS])
def test_a_text_to_text_network_has_words_for_every_task(task):
    problem = build_task(made_up(task, "model=t5_base"))
    network = problem.network()
    inputs, targets = problem.batch("train", torch.arange(2))
    assert problem.loss(problem.forward(network, inputs), targets) > 0


@pytest.mark.parametrize("task", KINDS)
def test_batches_depend_on_indices_and_generator_alone(task):
    problem = built(task)
    places = np.array([3, 0, 5]) % len(problem.splits["train"])
    indices = torch.from_numpy(places)
    first = problem.batch("train", indices, torch.Generator().manual_seed(1))
    again = problem.batch("train", indices, torch.Generator().manual_seed(1))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert first[1].tolist() == problem.splits["train"].labels[places].tolist()


@pytest.mark.parametrize("task", KINDS)
def test_the_seed_decides_the_head_and_the_pretrained_part_stays(task):
    problem = built(task)
    networks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        networks.append(torch.nn.utils.parameters_to_vector(problem.network().parameters()))
    assert torch.equal(networks[0], networks[1])
    if problem.spec.budget not in ("probe", "theory"):  # which start where the problem says
        assert not torch.equal(networks[0], networks[2])


@pytest.mark.parametrize("task", KINDS)
def test_splits_are_the_same_every_time(task):
    assert build_task(made_up(task)).fingerprints() == built(task).fingerprints()


def test_a_task_is_given_the_specs_of_its_run():
    loaded, task = made_up("cifar").spec, build_task(made_up("cifar"))
    assert (task.spec, task.model, task.train) == (loaded.task, loaded.model, loaded.train)


@pytest.mark.parametrize(
    ("task", "key"),
    [
        *(("cifar", key) for key in ("task.classes", "task.shape")),
        *(("movies", key) for key in ("task.classes", "model.tokenizer")),
        *(("logistic_wine", key) for key in ("task.data", "task.l2")),
        *(("divergence_example", key) for key in ("task.dimension", "task.prescribes")),
        ("probe_cifar", "task.source"),
        ("squad", "train.max_tokens"),
    ],
)
def test_what_a_kind_of_task_needs_and_its_yaml_does_not_say_is_named(task, key):
    lacking = with_changes(made_up(task), {key: None})
    with pytest.raises(UserError, match=f"^{key} is missing: set it in its yaml$"):
        build_task(lacking)


@pytest.mark.parametrize(
    ("task", "metric", "near"),
    [
        ("cifar", "balanced_acuracy", "did you mean balanced_accuracy"),
        ("stsb", "accuracy", "choose from pearson"),
        ("movies", "pearson", "choose from accuracy, balanced_accuracy, macro_f1, matthews, f1"),
        (
            "own_texts",
            "f1",
            r"choose from accuracy, .*, matthews \(f1 needs a positive class of two",
        ),
        (
            "newsgroups",
            "f1",
            r"choose from accuracy, .*, matthews \(f1 needs a positive class of two",
        ),
    ],
)
def test_metric_that_a_task_does_not_have_is_refused_before_it_trains(task, metric, near):
    words = f"^task {task} has no task.metric={metric}: {near}"
    with pytest.raises(UserError, match=words):
        build_task(made_up(task, f"task.metric={metric}"))


def sizes(validation, train=None, test=None):
    """What the protocol prescribes for the three splits."""
    return TrainSpec.model_construct(
        validation_examples=validation, train_examples=train, test_examples=test
    )


@pytest.mark.parametrize("official_test", [True, False])
def test_splits_share_no_example(official_test):
    def numbered(first, count):
        return Examples(np.arange(first, first + count).reshape(-1, 1, 1, 1), np.zeros(count, int))

    data = DataSet(numbered(0, 100), numbered(100, 40) if official_test else None, ("one",))
    parts = {name: set(part.inputs.ravel()) for name, part in split(data, sizes(20), "x").items()}
    assert sum(map(len, parts.values())) == len(set.union(*parts.values()))
    assert len(parts["validation"]) == 20
    if official_test:
        assert parts["test"] == set(range(100, 140)) and len(parts["train"]) == 80
    else:
        assert len(parts["test"]) == 20 and len(parts["train"]) == 60
    fewer = split(data, sizes(20, train=7, test=5), "x")
    assert set(fewer["train"].inputs.ravel()) < parts["train"] and len(fewer["test"]) == 5


def test_validation_is_the_official_part_or_by_the_protocol_the_test_part_itself():
    def numbered(first, count):
        return Examples(np.arange(first, first + count).reshape(-1, 1, 1, 1), np.zeros(count, int))

    parts = split(DataSet(numbered(0, 50), numbered(100, 9), ("one",)), sizes(None), "x")
    assert len(parts["train"]) == 50
    assert parts["validation"].inputs.tolist() == parts["test"].inputs.tolist()
    official = DataSet(numbered(0, 50), numbered(100, 9), ("one",), numbered(200, 8))
    parts = split(official, sizes(None), "x")
    assert len(parts["train"]) == 50
    assert sorted(parts["validation"].inputs.ravel()) == list(range(200, 208))
    fewer = split(official, sizes(3), "x")["validation"]
    assert len(fewer) == 3 and set(fewer.inputs.ravel()) < set(range(200, 208))


def test_frozen_batch_norm_keeps_its_statistics_and_trains_its_scale():
    moved = {}
    for batch_norm in ("frozen", "train"):
        problem = build_task(made_up("cifar", f"model.batch_norm={batch_norm}"))
        network = problem.network()
        problem.set_training(network)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        inputs, targets = problem.batch("train", torch.arange(8))
        problem.loss(problem.forward(network, inputs), targets).backward()
        after = network.state_dict()
        moved[batch_norm] = any(not torch.equal(before[n], after[n]) for n in after)
        assert all(p.grad is not None for p in network.parameters())
    assert moved == {"frozen": False, "train": True}


def test_probe_trains_a_zero_initialised_layer_on_frozen_features():
    problem = built("probe_cifar")
    network = problem.network()
    assert all(torch.count_nonzero(p) == 0 for p in network.parameters())
    features, _ = problem.batch("test", torch.arange(4))
    assert network(features).shape == (4, 10)


def test_majority_score_is_that_of_trains_commonest_class():
    problem = built("movies")
    labels = problem.splits["train"].labels
    commonest = int(np.mean(labels) > 0.5)
    assert problem.majority("test") == np.mean(problem.splits["test"].labels == commonest)


@pytest.mark.parametrize("group", ["model", "opt", "protocol"])
def test_every_yaml_names_itself(group):
    names = config.options(group)
    yamls = [OmegaConf.load(config.CONFIGS / group / f"{name}.yaml") for name in names]
    assert [yaml.name for yaml in yamls] == names


def words(url):
    return set(url.split("/"))


@pytest.mark.parametrize("task", TASKS)
def test_every_task_states_what_tables_and_licences_need(task):
    problem = config.load([f"task={task}"]).spec.task
    assert problem.name == task
    assert problem.metric and isinstance(problem.higher_is_better, bool)
    assert problem.version >= 1 and problem.budget in ("vision", "language", "probe", "theory")
    if problem.domain == "theory" and problem.data is None:
        return  # a function that takes no data
    data = (problem.source or problem).data
    assert data.citation and (data.examples or data.manual)  # nobody knows how much a user has
    if data.hub:
        revision = data.hub.revision  # null where no commit is known: the record names the one
        assert data.hub.licence and (revision is None or len(revision) == 40)
    elif data.source:
        assert data.source.licence
        assert data.sha256 if problem.domain == "theory" else data.source.sha256
    else:  # torchvision knows checksums; what is put there by hand has none
        ways = [data.torchvision, data.url, data.manual]
        assert data.licence and sum(way is not None for way in ways) == 1
        assert not data.url or (len(data.md5) == 32 and not {"master", "main"} & words(data.url))


@pytest.mark.parametrize("task", TASKS)
def test_the_papers_protocol_says_how_long_every_task_trains(task):
    train = config.load([f"task={task}", "protocol=paper"]).spec.train
    assert train.steps and train.batch_size and train.eval_every


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_digits_are_never_mirrored_and_lenet_sees_them_at_their_own_size(protocol):
    for task in ("mnist", "mnist_scratch"):
        train = config.load([f"task={task}", f"protocol={protocol}"]).spec.train
        assert train.augment == "none"
    assert train.image_size == 28


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("budget", ["vision", "language", "probe"])
def test_every_protocol_says_all_that_training_asks_of_it(protocol, budget):
    task = {"vision": "cifar", "language": "movies", "probe": "probe_cifar"}[budget]
    train = config.load([f"task={task}", f"protocol={protocol}"]).spec.settings["train"]
    assert train["steps"] and train["batch_size"] and train["validation_examples"]
    assert train["max_tokens"] if budget == "language" else train["image_size"]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("model", "least"), [("efficientnet_lite0", 0.65), ("mobilenetv2", 0.5), ("squeezenet", 0.6)]
)
def test_pretrained_vision_weights_are_the_real_ones(model, least, tmp_path, real_data):
    real_data("task/cifar", f"model/{model}")
    overrides = [f"model={model}", "train.image_size=96"]
    record = run(probe_run("probe_cifar", tmp_path, overrides)).plain()
    assert record["results"]["test"]["averaged"] > least  # with random weights at most .33


@pytest.mark.real_data
def test_pretrained_text_weights_are_the_real_ones(tmp_path, real_data):
    real_data("task/newsgroups", "model/minilm")
    record = run(probe_run("probe_newsgroups", tmp_path, ["train.max_tokens=32"])).plain()
    assert record["results"]["test"]["averaged"] > 0.25  # chance is .05


def probe_run(task, tmp_path, overrides):
    common = ["opt=adam", "opt.lr=0.003", "train.steps=150", "train.validation_examples=100"]
    common += ["train.train_examples=500", "train.test_examples=200"]
    quiet = ["wandb.mode=disabled", "progress=false", f"runs_dir={tmp_path}"]
    return config.load([f"task={task}", "protocol=smoke", *common, *overrides, *quiet])
