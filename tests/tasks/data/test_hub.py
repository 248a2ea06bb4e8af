"""The hub's data sets and networks, from local copies in its own format to a trained run.

What reads the small copies (hub_copies.py) is what reads a fetched repository.
"""

import hashlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from conftest import with_changes
from hub_copies import (
    CLASSES,
    SIZES,
    TEXTS,
    sentence,
    write_glue,
    write_roberta,
    write_squad,
    write_t5,
)
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import httpx

from runner import config
from runner.run import build_task, run
from tasks.data.hub import copy_of, tables
from tasks.data.specs import DataSpec, HubTables
from tasks.errors import UserError


@pytest.fixture(scope="module")
def copies(tmp_path_factory) -> Path:
    """A folder with copies of the four repositories."""
    folder = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    for task in TEXTS:
        write_glue(folder / "glue", task)
    write_squad(folder / "squad")
    write_roberta(folder / "roberta_base")
    write_t5(folder / "t5_base")
    return folder


@pytest.fixture
def load(copies, tmp_path):
    """A configuration of a task with a network, from these copies; it expects their sizes."""

    def with_copies(task, model, *overrides, **changes):
        data = copies / ("squad" if task == "squad" else "glue")
        paths = [f"task.data.path={data}", f"model.weights.path={copies / model}"]
        paths += [f"data_dir={tmp_path}/data", f"runs_dir={tmp_path}/runs"]
        quiet = ["protocol=paper", "wandb.mode=disabled", "progress=false"]
        words = [f"task={task}", f"model={model}", *quiet, *paths, *overrides]
        sizes = {"train": SIZES["train"], "test": SIZES["validation"]}
        return with_changes(config.load(words), {"task.data.examples": sizes, **changes})

    return with_copies


@pytest.mark.parametrize(
    ("task", "model"),
    [
        *((task, "roberta_base") for task in [*TEXTS, "squad"]),
        *((task, "t5_base") for task in ("stsb", "squad")),  # no network changes how texts are read
    ],
)
def test_local_copies_train_by_the_papers_protocol(load, copies, task, model):
    record = run(load(task, model, "train.steps=2", "train.batch_size=4", "opt=ldog")).plain()
    assert record["status"] == "finished" and record["results"]["steps"] == 2
    # The development set is both: it is selected and reported on.
    results = record["results"]
    assert results["validation"] == results["test"] and results["test"]["examples"] == 9
    assert ("test_correct" in results and results["test_correct"] != {}) == (task != "stsb")
    weights = (copies / model / "model.safetensors").read_bytes()
    prints = record["fingerprints"]
    assert prints["weights"] == hashlib.sha256(weights).hexdigest()
    assert prints["weights_revision"] == prints["data_revision"] == "local copy"


def test_result_belongs_to_the_data_that_were_read(load, copies, tmp_path, monkeypatch):
    words = ("train.steps=1", "train.batch_size=4")
    first = run(load("cola", "roberta_base", *words)).plain()
    other = tmp_path / "other"
    shutil.copytree(copies / "glue", other)
    rte = other / "rte" / "train-00000-of-00001.parquet"
    rte.unlink()  # not read for cola
    moved = [f"task.data.path={other}"]
    assert run(load("cola", "roberta_base", *words, *moved)).plain() == first
    write_glue(other, "cola", shift=1)
    second = run(load("cola", "roberta_base", *words, *moved)).plain()
    assert second["run_id"] != first["run_id"] and second["problem_id"] == first["problem_id"]
    assert second["data_id"] != first["data_id"]
    assert second["fingerprints"]["train"] != first["fingerprints"]["train"]
    assert second["sources"]["data"] != first["sources"]["data"]
    assert second["sources"]["weights"] == first["sources"]["weights"]


def test_examples_classes_and_pairs_are_the_tables(load):
    task = build_task(load("mnli", "roberta_base"))
    assert task.classes == tuple(CLASSES["mnli"])
    assert task.splits["train"].inputs[4] == (sentence(4), sentence(5))
    assert task.splits["train"].labels.tolist() == [i % 3 for i in range(12)]
    inputs, _ = task.batch("train", torch.tensor([4]))
    read = task.tokenizer.decode(inputs["input_ids"][0])
    assert read == f"<s>{sentence(4)}</s></s>{sentence(5)}</s>"


def test_pretrained_weights_are_loaded_and_the_head_is_a_new_one(load, copies):
    from safetensors.torch import load_file

    task = build_task(load("cola", "roberta_base"))
    heads = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = task.network()
        saved = load_file(copies / "roberta_base" / "model.safetensors")
        name = "roberta.encoder.layer.0.output.dense.weight"
        assert torch.equal(network.state_dict()[name], saved[name])
        heads.append(network.classifier.dense.weight)  # one hidden layer, then the classes
    assert not torch.equal(*heads) and network.classifier.out_proj.out_features == 2


def test_embeddings_are_frozen_where_the_protocol_says_so(load):
    for model in ("roberta_base", "t5_base"):
        frozen = {"model.freeze_embeddings": True}
        for changes in ({}, frozen):
            network = build_task(load("cola", model, **changes)).network()
            assert network.get_input_embeddings().weight.requires_grad == (changes == {})


@pytest.mark.parametrize("task", ["squad", "stsb"])
def test_regression_and_spans_fit_t5_and_roberta_alike(load, task):
    prints = [build_task(load(task, model)).fingerprints() for model in ("roberta_base", "t5_base")]
    assert prints[0]["test"] == prints[1]["test"]


def test_squads_answers_are_found_in_the_windows(load):
    task = build_task(load("squad", "roberta_base", "train.max_tokens=64"))
    split, places = task.splits["train"], task.places["train"]
    assert len(split) > task.count("train") == 12
    with_answer = set()
    for window, (first, last) in enumerate(split.labels):
        owner = split.inputs[window]
        if last:
            start, end = places[window][first][0], places[window][last][1]
            assert task.questions["train"][owner].context[start:end] == "cat"
            with_answer.add(int(owner))
    assert with_answer == set(range(12))


# Fetching, with a stand-in for the hub.


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """The folder of the hub's own cache: nobody's."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def not_in_the_cache(download):
    """A stand-in for snapshot_download that finds nothing in the hub's own cache."""

    def stand_in(*arguments, local_files_only=False, **options):
        if local_files_only:
            raise LocalEntryNotFoundError("not there")
        return download(*arguments, **options)

    return stand_in


@pytest.fixture
def hub(copies, monkeypatch):
    """A hub with one commit, which counts what is fetched from it."""
    calls = []

    def repo_info(self, repository, repo_type, revision):
        return SimpleNamespace(sha="c" * 40)

    def snapshot_download(repository, repo_type, revision, local_dir, allow_patterns):
        calls.append((repository, repo_type, revision))
        source = copies / ("glue" if repo_type == "dataset" else "roberta_base")
        for pattern in allow_patterns:
            for path in source.glob(pattern):
                target = local_dir / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)

    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", repo_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", not_in_the_cache(snapshot_download))
    return calls


def test_repositories_are_fetched_once_and_the_record_tells_the_commit(load, hub):
    fetched = {"task.data.path": None, "model.weights.path": None}
    words = ["train.steps=2", "train.batch_size=4"]
    prints = run(load("cola", "roberta_base", *words, **fetched)).plain()["fingerprints"]
    assert prints["data_revision"] == f"nyu-mll/glue@{'c' * 40}"
    assert prints["weights_revision"] == f"FacebookAI/roberta-base@{'c' * 40}"
    assert sorted(hub) == [
        ("FacebookAI/roberta-base", "model", "c" * 40),
        ("nyu-mll/glue", "dataset", "c" * 40),
    ]
    again = run(load("cola", "roberta_base", "seed=1", *words, **fetched)).plain()["fingerprints"]
    local = run(load("cola", "roberta_base", "seed=2", *words)).plain()["fingerprints"]
    assert again == prints and len(hub) == 2
    assert {name: local[name] for name in ("train", "test", "weights")} == {
        name: prints[name] for name in ("train", "test", "weights")
    }


def one_line(error) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("key", ["task.data.path", "model.weights.path"])
def test_hub_out_of_reach_says_what_to_copy_where(load, monkeypatch, tmp_path, key):
    def unreachable(*_, **__):
        raise httpx.ConnectError("[Errno -2] Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", unreachable)
    with pytest.raises(UserError) as error:
        run(load("cola", "roberta_base", **{key: None}))
    message = one_line(error)
    assert "Name or service not known" in message and f"{key}=FOLDER" in message
    repository, file = {
        "task.data.path": ("nyu-mll/glue", "cola/train-*.parquet"),
        "model.weights.path": ("FacebookAI/roberta-base", "model.safetensors"),
    }[key]
    assert repository in message and file in message
    assert not [path for path in tmp_path.rglob("*") if "staging" in path.name]


def test_interrupted_fetch_leaves_nothing_and_is_done_again(load, hub, monkeypatch, tmp_path):
    def broken(*_, local_dir, **__):
        (local_dir / "cola").mkdir(parents=True)
        raise httpx.ReadTimeout("timed out")

    data = load("cola", "roberta_base").spec.task.data.replaced(path=None)
    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub, "snapshot_download", not_in_the_cache(broken))
        with pytest.raises(UserError, match="timed out"):
            copy_of(data, tmp_path / "data")
    assert copy_of(data, tmp_path / "data").revision == f"nyu-mll/glue@{'c' * 40}"


@pytest.mark.parametrize(
    ("error", "said"),
    [(RuntimeError(), "RuntimeError"), (OSError("no route\nat all"), "no route")],
    ids=["of the hub's own client, without a word", "of the network"],
)
def test_whatever_stops_a_fetch_says_what_to_copy_where(load, hub, monkeypatch, error, said):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", not_in_the_cache(broken))
    with pytest.raises(UserError, match=rf"fetched \({said}\): .*task\.data\.path=") as refusal:
        build_task(load("cola", "roberta_base", **{"task.data.path": None}))
    one_line(refusal)


def test_commit_without_the_wanted_files_is_not_kept(load, hub, monkeypatch, tmp_path):
    data = load("cola", "roberta_base").spec.task.data.replaced(path=None)
    with monkeypatch.context() as patch:
        empty = not_in_the_cache(lambda *_, local_dir, **__: local_dir)
        patch.setattr(huggingface_hub, "snapshot_download", empty)
        with pytest.raises(UserError, match=r"no file cola/train-\*\.parquet in nyu-mll/glue@ccc"):
            copy_of(data, tmp_path / "data")
    assert copy_of(data, tmp_path / "data").revision == f"nyu-mll/glue@{'c' * 40}"


# The hub's own cache.


def put_into_cache(cache, source, kind, repository, commit):
    """Lay a copy out as the hub's own library keeps it; return the commit's folder."""
    storage = cache / f"{kind}s--{repository.replace('/', '--')}"
    snapshot = storage / "snapshots" / commit
    for path in (path for path in source.rglob("*") if path.is_file()):
        name = path.relative_to(source)
        blob = storage / "blobs" / hashlib.sha256(str(name).encode()).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(os.path.relpath(blob, (snapshot / name).parent))
    (storage / "refs").mkdir(exist_ok=True)
    (storage / "refs" / "main").write_text(commit)
    return snapshot


def asked(*_, **__):
    raise AssertionError("the hub was asked")


@pytest.mark.parametrize("offline", [True, False])
def test_the_hubs_own_cache_is_used_and_the_hub_is_not_asked(
    load, copies, cache, monkeypatch, offline
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", asked)
    made = load("cola", "roberta_base", **{"task.data.path": None, "model.weights.path": None})
    data, weights = made.spec.task.data.hub, made.spec.model.weights.hub
    put_into_cache(cache, copies / "glue", "dataset", data.repository, data.revision)
    roberta = copies / "roberta_base"
    snapshot = put_into_cache(cache, roberta, "model", weights.repository, weights.revision)
    task = build_task(made)
    prints = task.fingerprints()
    assert prints["data_revision"] == f"nyu-mll/glue@{data.revision}"
    assert prints["weights_revision"] == f"FacebookAI/roberta-base@{weights.revision}"
    overlapping = weights.replaced(files=[*weights.files, "*.json"])
    block = made.spec.model.weights.replaced(hub=overlapping)
    taken = copy_of(block, task.data_dir).folder
    assert (taken / "model.safetensors").samefile(snapshot / "model.safetensors")  # no room
    shutil.rmtree(cache)  # nothing of it is needed any more
    assert build_task(made).network().config.hidden_size == 16


def test_a_part_of_a_repository_in_the_cache_is_not_taken_for_the_whole(
    load, copies, cache, monkeypatch, tmp_path
):
    def asked_for_the_rest(*_, **__):
        raise RuntimeError("asked for the rest")

    block = load("cola", "roberta_base").spec.task.data.replaced(path=None)
    snapshot = put_into_cache(cache, copies / "glue", "dataset", "nyu-mll/glue", block.hub.revision)
    train = snapshot / "cola/train-00000-of-00001.parquet"
    train.rename(train.with_name("train-00000-of-00002.parquet"))
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", asked_for_the_rest)
    with pytest.raises(UserError, match="asked for the rest"):
        copy_of(block, tmp_path / "data")


def test_offline_what_is_not_in_the_cache_is_one_line_with_what_to_do(
    load, cache, monkeypatch, tmp_path
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", asked)
    block = load("cola", "roberta_base").spec.model.weights.replaced(path=None)
    with pytest.raises(UserError) as refusal:
        copy_of(block, tmp_path / "data")
    line = one_line(refusal)
    for word in ("FacebookAI/roberta-base", "HF_HUB_OFFLINE is set", str(cache), "unset it"):
        assert word in line
    assert block.hub.revision in line and "model.weights.path=FOLDER" in line


def test_offline_the_newest_commit_is_that_of_the_cache(load, copies, cache, monkeypatch, tmp_path):
    block = load("cola", "roberta_base").spec.task.data
    block = block.replaced(path=None, hub=block.hub.replaced(revision=None))
    put_into_cache(cache, copies / "glue", "dataset", "nyu-mll/glue", "d" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert copy_of(block, tmp_path / "1").revision == f"nyu-mll/glue@{'d' * 40}"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    newer = SimpleNamespace(sha="e" * 40)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", lambda *_, **__: newer)
    put_into_cache(cache, copies / "glue", "dataset", "nyu-mll/glue", "e" * 40)
    assert copy_of(block, tmp_path / "2").revision == f"nyu-mll/glue@{'e' * 40}"


def test_folder_without_the_files_says_which_are_missing(load, tmp_path):
    for key, file in (("task.data.path", "cola/train"), ("model.weights.path", "config.json")):
        with pytest.raises(UserError, match=rf"no file {file}.* in {tmp_path}/none: copy .*{key}="):
            run(load("cola", "roberta_base", **{key: f"{tmp_path}/none"}))


def test_damaged_or_other_tables_are_said(copies, load, tmp_path):
    shutil.copytree(copies / "glue", tmp_path / "glue")
    path = {"task.data.path": f"{tmp_path}/glue"}
    train = tmp_path / "glue" / "cola" / "train-00000-of-00001.parquet"
    shutil.copy(copies / "squad" / "plain_text" / train.name, train)
    shutil.copy(train, train.with_name("validation-00000-of-00001.parquet"))
    with pytest.raises(UserError, match="of another form"):
        build_task(load("cola", "roberta_base", **path))
    train.write_bytes(train.read_bytes()[:200])
    with pytest.raises(UserError, match="cannot be read") as error:
        build_task(load("cola", "roberta_base", **path))
    one_line(error)
    with pytest.raises(UserError, match="promises 12 train examples, there are 9"):
        shutil.copy(copies / "glue/mrpc/validation-00000-of-00001.parquet", tmp_path / "glue/mrpc")
        shutil.copy(
            copies / "glue/mrpc/validation-00000-of-00001.parquet",
            tmp_path / "glue/mrpc/train-00000-of-00001.parquet",
        )
        build_task(load("mrpc", "roberta_base", **path))


def test_damaged_weights_are_said(copies, load, tmp_path):
    shutil.copytree(copies / "roberta_base", tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"{}")
    broken = {"model.weights.path": f"{tmp_path}/model"}
    with pytest.raises(UserError, match="does not hold the weights of roberta-base") as error:
        build_task(load("cola", "roberta_base", **broken)).network()
    one_line(error)


def test_only_the_weights_that_are_loaded_count(copies, load, tmp_path):
    shutil.copytree(copies / "roberta_base", tmp_path / "model")
    same = {"model.weights.path": f"{tmp_path}/model"}
    before = build_task(load("cola", "roberta_base", **same)).fingerprints()
    (tmp_path / "model" / "adapter.safetensors").write_bytes(b"of no use here")
    assert build_task(load("cola", "roberta_base", **same)).fingerprints() == before


def test_classes_without_names_are_refused(copies, load, tmp_path):
    from datasets import Dataset

    shutil.copytree(copies / "glue", tmp_path / "glue")
    for split, count in SIZES.items():
        rows = {"sentence": ["the cat"] * count, "label": [i % 2 for i in range(count)]}
        file = tmp_path / "glue" / "cola" / f"{split}-00000-of-00001.parquet"
        Dataset.from_dict(rows).to_parquet(file)
    copy = {"task.data.path": f"{tmp_path}/glue"}
    with pytest.raises(UserError, match=r"promises 2 classes, the data name 0: .*\.path") as said:
        build_task(load("cola", "roberta_base", **copy))
    one_line(said)


def first(value):
    return lambda column: [value, *column[1:]]


def answered(texts, starts):
    return lambda column: [{"text": texts, "answer_start": starts}, *column[1:]]


BAD_COLUMNS = {
    "words as labels": ("cola", "label", lambda c: ["good"] * len(c), "label in row 0 is 'good'"),
    "a secret label": ("cola", "label", first(-1), r"label in row 0 is -1 .*\(-1 .* secret"),
    "no label": ("cola", "label", first(None), "label in row 0 is None"),
    "no text": ("cola", "sentence", first(None), "row 0 lacks a text"),
    "half a pair": ("stsb", "sentence2", first(None), "row 0 lacks a text"),
    "words as numbers": ("stsb", "label", lambda c: ["3"] * len(c), "label in row 0 is '3'"),
    "no number": ("stsb", "label", first(None), "label in row 0 is None"),
    "not a number": ("stsb", "label", first(float("nan")), "label in row 0 is nan"),
    "secret numbers": ("stsb", "label", lambda c: [-1.0] * len(c), "all its labels are -1"),
    "no question": ("squad", "question", first(None), "row 0 lacks a text"),
    "no context": ("squad", "context", first(None), "row 0 lacks a text"),
    "no answer": ("squad", "answers", answered([], []), "row 0 lacks a text"),
    "an answer before its text": ("squad", "answers", answered(["cat"], [-1]), "answer outside"),
    "an answer behind its text": ("squad", "answers", answered(["cat"], [999]), "answer outside"),
}


BAD_PARTS = [(name, "validation") for name in BAD_COLUMNS]
BAD_PARTS += [(name, "train") for name in ("a secret label", "no text", "secret numbers")]


@pytest.mark.parametrize(("name", "part"), BAD_PARTS)
def test_labels_and_texts_that_are_none_are_one_line(copies, load, tmp_path, name, part):
    """In the part that is trained on, and in the one that is only scored."""
    from datasets import Dataset, Features, Value

    task, column, change, said = BAD_COLUMNS[name]
    shutil.copytree(copies / ("squad" if task == "squad" else "glue"), tmp_path / "copy")
    for split in SIZES:
        folder = tmp_path / "copy" / ("plain_text" if task == "squad" else task)
        file = folder / f"{split}-00000-of-00001.parquet"
        table = Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))
        rows, features = {c: table[c][:] for c in table.features}, dict(table.features)
        words = column == "label" and isinstance(change(rows[column])[0], str)
        if words:  # in both parts: the library gives a column one type
            features[column] = Value("string")
        if words or split == part:
            rows[column] = change(rows[column])
        Dataset.from_dict(rows, Features(features)).to_parquet(file)
    with pytest.raises(UserError, match=said) as error:
        build_task(load(task, "roberta_base", **{"task.data.path": f"{tmp_path}/copy"}))
    assert str(tmp_path / "copy") in one_line(error)


def without(name):
    return lambda tensors: {key: t for key, t in tensors.items() if not key.startswith(name)}


def cut_short(tensors):
    name = "roberta.embeddings.word_embeddings.weight"
    return tensors | {name: tensors[name][:-1].clone()}


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        (
            without("roberta.encoder.layer.0.output"),
            "4 .*: .*encoder.layer.0.output.LayerNorm.bias",
        ),
        (without("roberta."), "21 .*: .*embeddings.LayerNorm.bias"),
        (cut_short, "1 .*: .*embeddings.word_embeddings.weight"),
    ],
    ids=["a layer is missing", "all are", "another size"],
)
@pytest.mark.parametrize("build", ["network", "backbone"])
def test_weights_that_are_not_all_there_are_refused(copies, load, tmp_path, change, lost, build):
    from safetensors.torch import load_file, save_file

    shutil.copytree(copies / "roberta_base", tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    task = build_task(load("cola", "roberta_base", **{"model.weights.path": f"{tmp_path}/model"}))
    with pytest.raises(
        UserError, match=rf"does not hold the weights of roberta-base \({lost}"
    ) as error:
        getattr(task, build)()
    one_line(error)


def test_another_kind_of_network_is_refused(copies, load):
    wrong = {"model.weights.path": f"{copies}/t5_base"}
    with pytest.raises(UserError, match="its kind is t5, that of roberta_base is another") as error:
        build_task(load("cola", "roberta_base", **wrong)).network()
    one_line(error)


def texts_in(folder):
    """The `data:` block of a copy of a hub's data set in this folder."""
    files = {"train": "train-*.parquet"}
    hub = HubTables(repository="a/b", revision="main", licence="MIT", files=files)
    return DataSpec.model_construct(path=str(folder), hub=hub)


def test_several_files_of_one_part_are_read_in_order(copies, tmp_path):
    from datasets import Dataset

    for number in range(2):
        part = Dataset.from_dict({"text": [f"{number}{i}" for i in range(3)]})
        part.to_parquet(tmp_path / f"train-0000{number}-of-00002.parquet")
    table = tables(texts_in(tmp_path), tmp_path / "data")["train"]
    assert table["text"][:] == ["00", "01", "02", "10", "11", "12"]


def test_another_copy_with_the_names_sizes_and_times_of_a_first_is_read_anew(tmp_path):
    from datasets import Dataset

    file = tmp_path / "copy" / "train-00000-of-00001.parquet"
    file.parent.mkdir()
    data, sizes = texts_in(file.parent), []
    for text in ("one", "two"):
        Dataset.from_dict({"text": [text] * 3}).to_parquet(file)
        os.utime(file, ns=(0, 0))
        sizes.append(file.stat().st_size)
        assert tables(data, tmp_path / "data")["train"]["text"][:] == [text] * 3
    assert sizes[0] == sizes[1]
