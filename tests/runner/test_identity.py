"""A result belongs to the data, the weights and the settings that it was made from."""

import json
import shutil

import pytest
from conftest import QUIET

from runner import SCHEMA, config, identity
from runner import run as running
from runner.record import RunFolder
from runner.run import Job
from runner.specs import OptimizerSpec
from tasks.data.blocks import DESCRIBES, YAML_ONLY
from tasks.data.specs import DataSpec
from tasks.specs import ModelSpec, TaskSpec

BLOCKS = (TaskSpec, ModelSpec, OptimizerSpec)


def write(folder, **contents):
    """Write the hub's files of cola as texts, which is enough to tell copies apart."""
    for part in ("train", "validation"):
        path = folder / "cola" / f"{part}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(contents.get(part, part))
    return folder


@pytest.fixture
def job(tmp_path):
    def of(*words):
        places = [f"data_dir={tmp_path}/cache", f"runs_dir={tmp_path}/runs"]
        return Job.of(config.load([*words, *places]))

    return of


def test_other_data_is_another_run_of_the_same_problem(job, tmp_path):
    first, moved = write(tmp_path / "a"), write(tmp_path / "elsewhere")
    other = write(tmp_path / "b", train="another text")
    jobs = [job("task=cola", f"task.data.path={path}") for path in (first, moved, other)]
    official = job("task=cola")
    names = [one.spec.run_id for one in [*jobs, official]]
    assert names[0] == names[1] and len(set(names)) == 3
    problems = {one.spec.problem_id for one in [*jobs, official]}
    assert len(problems) == 1
    write(first, train="edited")
    assert job("task=cola", f"task.data.path={first}").spec.run_id not in names


def test_other_columns_of_the_same_file_and_another_size_of_images_are_another_run(job, tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text("text,title,label,stars\nA good day,Day,yes,5\nA bad day,Night,no,1\n")
    texts, images = (
        f"task=own_texts task.data.path={path}",
        f"task=own_images task.data.path={tmp_path}",
    )
    words = [texts, f"{texts} task.data.text=title", f"{texts} task.data.second_text=title"]
    words += [f"{texts} task.data.label=stars", images, f"{images} task.data.shorter_side=64"]
    names = [job(*line.split()).spec.run_id for line in words]
    assert len(set(names)) == len(words)


def test_table_of_another_form_is_another_run(job, tmp_path):
    names = set()
    for suffix in ("csv", "tsv", "csv.gz"):
        path = tmp_path / f"reviews.{suffix}"
        path.write_text("text,\tlabel\ngood,\tyes\n")
        names.add(job("task=own_texts", f"task.data.path={path}").spec.run_id)
    assert len(names) == 2


def test_other_weights_are_another_run(job, tmp_path):
    names = set()
    for content in ("1", "2"):
        folder = tmp_path / content
        folder.mkdir()
        (folder / "model.safetensors").write_text(content)
        names.add(job("model=resnet50", f"model.weights.path={folder}").spec.run_id)
    assert len(names | {job("model=resnet50").spec.run_id}) == 3


def test_probes_have_the_data_of_their_source(job, tmp_path):
    names = set()
    for content in ("1", "2"):
        folder = tmp_path / content
        folder.mkdir()
        (folder / "train_32x32.mat").write_text(content)
        names.add(job("task=probe_svhn", f"task.source.data.path={folder}").spec.run_id)
    assert len(names) == 2


def test_data_put_there_by_hand_count_too(job, tmp_path):
    before = job("task=resisc45", "model=resnet50").spec.run_id
    folder = tmp_path / "cache" / "manual" / "resisc45"
    folder.mkdir(parents=True)
    (folder / "image.jpg").write_text("1")
    assert job("task=resisc45", "model=resnet50").spec.run_id != before


def test_copy_of_what_a_yaml_pins_by_checksum_is_the_same_run(job):
    assert (
        job("task=cifar", "task.data.path=somewhere").spec.run_id == job("task=cifar").spec.run_id
    )


@pytest.fixture
def done(tmp_path):
    """A finished run of a made-up problem: its configuration and its folder."""
    loaded = config.load([*QUIET, f"runs_dir={tmp_path}", "task=probe_cifar"])
    running.run(loaded)
    return loaded, Job.of(loaded).folder


def test_record_of_another_run_is_not_believed(done, tmp_path, caplog):
    _, folder = done
    other = config.load([*QUIET, f"runs_dir={tmp_path}", "task=probe_cifar", "seed=1"])
    shutil.copytree(folder.path, Job.of(other).folder.path)
    assert Job.of(other).folder.read_record() is None
    record = running.run(other)
    assert record.settings["seed"] == 1 and record == Job.of(other).folder.read_record()
    assert "is that of another run" in caplog.text and "begins anew" in caplog.text
    assert list(Job.of(other).folder.path.glob("record.json.*"))  # nothing is lost


def test_record_whose_settings_are_not_those_of_its_name_is_not_believed(done):
    _, folder = done
    record = json.loads(folder.record.read_text())
    record["settings"]["opt"]["reps_rel"] = 1e-3
    folder.record.write_text(json.dumps(record))
    assert folder.read_record() is None


def test_record_of_another_schema_is_made_anew(done, caplog):
    loaded, folder = done
    record = json.loads(folder.record.read_text())
    old = {key: record[key] for key in record if key not in ("sources", "numerics", "data_id")}
    folder.record.write_text(json.dumps(old | {"schema": SCHEMA - 1}))
    assert folder.read_record() is None
    assert running.run(loaded).schema_version == SCHEMA
    assert f"has schema {SCHEMA - 1} and not {SCHEMA}" in caplog.text


@pytest.mark.parametrize("kind", ["data", "weights"])
def test_record_of_other_sources_is_not_the_answer(done, kind):
    loaded, folder = done
    record = json.loads(folder.record.read_text())
    folder.record.write_text(json.dumps(record | {"sources": {kind: "sha256 old"}}))

    def answer(source):
        name, runs_dir = loaded.spec.run_id, loaded.execution.runs
        return RunFolder(runs_dir, "probe_cifar", name, {kind: source}).read_record()

    assert answer("sha256 new") is None
    assert answer("sha256 old") and answer(None)  # None: it is not known what would be read


def test_newest_commit_of_a_hub_is_the_one_that_is_here(job, tmp_path):
    from tasks.data.hub import fetched_folder
    from tasks.data.storage import seal

    words = ("task=dmlab", "model=resnet50")
    loaded = job(*words).config
    assert job(*words).folder.sources["data"] is None
    folder = fetched_folder(loaded.spec.task.data, loaded.execution.data)
    folder.mkdir(parents=True)
    seal(folder, revision=f"dpdl-benchmark/dmlab@{'a' * 40}")
    sources = job(*words).folder.sources
    assert sources["data"] == f"dpdl-benchmark/dmlab@{'a' * 40}"
    assert sources["weights"].startswith("timm/resnet50") and "@5d9e13b8" in sources["weights"]


def test_record_names_what_was_read_and_with_what(done):
    record = json.loads(done[1].record.read_text())
    assert record["data_id"] == identity.data_id(record["fingerprints"])
    assert record["sources"] == {}  # made up
    assert record["numerics"]["kernel"] in ("C", "torch")
    assert {"device", "processor", "cpu_capability", "threads", "torch"} <= set(record["numerics"])


def test_answer_from_a_record_of_other_means_says_so(done, caplog):
    loaded, folder = done
    with caplog.at_level("INFO"):
        running.run(loaded)
        assert "last digits" not in caplog.text
        record = json.loads(folder.record.read_text())
        record["numerics"] |= {"torch": "2.11.0", "processor": "another"}
        folder.record.write_text(json.dumps(record))
        running.run(loaded)
    assert "torch 2.11.0 (here" in caplog.text and "processor another" in caplog.text
    assert "the last digits may differ" in caplog.text


def test_no_key_that_the_command_line_can_set_changes_a_result_and_no_id():
    outside = {spec: spec.marked(DESCRIBES) - spec.marked(YAML_ONLY) for spec in BLOCKS}
    assert outside == {TaskSpec: {"data"}, ModelSpec: set(), OptimizerSpec: {"label", "grid"}}
    of_data = set(DataSpec.yaml_keys()) - DataSpec.marked(YAML_ONLY)
    in_digest = {"path", "text", "second_text", "label", "shorter_side"}  # as tested above
    assert of_data == in_digest | {"licence", "citation"}
