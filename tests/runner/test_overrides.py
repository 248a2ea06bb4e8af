"""The words of a command line: paths are typed as they are, what cannot be read is said."""

import shlex

import pytest
import warm
from conftest import QUIET, ROOT

from runner import config, overrides
from tasks.errors import UserError

ODD = ["~/data", "/a/größe 日本", "/a (1)/b", "/a, b", "/lr=1", "it's", 'say "a"', "a#&;!{}[]", "5"]
ODD += ["null.d", "'half", "a\\b"]


@pytest.mark.parametrize("path", ODD)
def test_a_path_is_typed_as_it_is(path):
    words = [f"{key}={path}" for key in ("runs_dir", "data_dir", "task.data.path")]
    loaded = config.load([*words, f"model.weights.path={path}", "task=cola"])
    assert [loaded.execution.runs_dir, loaded.execution.data_dir] == [path] * 2
    assert loaded.spec.task.data.path == path
    assert loaded.spec.model.weights.path == path
    assert overrides.path_in(f"runs_dir={path}") == path


@pytest.mark.parametrize("path", ODD)
def test_a_path_may_have_hydras_quotes(path):
    word = overrides.quoted(f"data_dir={path}")
    assert overrides.quoted(word) == word
    assert config.load([word]).execution.data_dir == overrides.path_in(word) == path


def test_paths_may_be_null_or_lie_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("SCRATCH", "/scratch/a (1)")
    assert config.load(["data_dir=null"]).execution.data_dir is None
    word = "runs_dir=${oc.env:SCRATCH}/runs"
    assert (
        config.load([word]).execution.runs_dir == overrides.path_in(word) == "/scratch/a (1)/runs"
    )


def test_a_multirun_goes_over_paths_with_commas_between():
    def sweep(word):
        (parsed,) = overrides.parse([overrides.quoted(word, sweep=True)])
        return list(parsed.sweep_string_iterator())

    assert sweep("task.data.path=/a,/b") == ["/a", "/b"]
    assert sweep("task.data.path=~/a,~/b (1)") == ["'~/a'", "'~/b (1)'"]
    assert sweep("task.data.path='~/a, b','/c'") == ["'~/a, b'", "'/c'"]


@pytest.mark.parametrize("word", ["opt.label=a(1)", "wandb.project=für uns", 'opt.label=a"b\\'])
def test_a_text_that_hydra_cannot_read_is_answered_with_one_that_it_can(word):
    with pytest.raises(UserError) as refusal:
        config.load([word])
    (instead,) = shlex.split(str(refusal.value).rpartition(" is ")[2])
    loaded, key = config.load([instead]), word.partition("=")[0]
    group, name = key.split(".")
    part = loaded.execution.wandb if group == "wandb" else loaded.spec.opt
    assert getattr(part, name) == word.partition("=")[2]


@pytest.mark.parametrize(
    ("words", "names", "settings"),
    [
        (["demo", "seed=1"], ["demo"], ["seed=1"]),
        (["sweep=demo"], ["demo"], []),
        (["demo", "runs_dir=../my-sweep=1"], ["demo"], ["runs_dir=../my-sweep=1"]),
        (["sweep=/lr=1/a (1).yaml"], ["/lr=1/a (1).yaml"], []),
        (["/lr=1/größe.yaml"], ["/lr=1/größe.yaml"], []),
        (["sweep='my sweep.yaml'"], ["my sweep.yaml"], []),
    ],
)
def test_a_sweep_is_told_from_the_overrides(words, names, settings):
    assert overrides.split(words) == (names, settings)


def test_the_users_home_may_hold_a_sweep(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert overrides.split(["sweep=~/a.yaml"]) == (["/home/me/a.yaml"], [])


@pytest.mark.parametrize("quote", ["", "'"])
def test_status_finds_runs_in_a_folder_of_any_name(tmp_path, quote):
    folder = tmp_path / "größe, (1) = x"
    (folder / "cifar" / "cifar-dog-0").mkdir(parents=True)
    done = warm.run(["scripts/status.py", f"runs_dir={quote}{folder}{quote}"])
    assert done.returncode == 0 and "cifar" in done.stdout, done.stderr


def test_a_run_and_its_multirun_write_to_a_folder_of_any_name_alone(tmp_path):
    folder, elsewhere = tmp_path / "größe, (1) = x", tmp_path / "elsewhere"
    elsewhere.mkdir()
    quoted = overrides.quoted(f"runs_dir={folder}")  # for the comma: of a multirun
    words = [ROOT / "run.py", "-m", "task=logistic_wine", *QUIET, quoted]
    done = warm.run(words, cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert len(list(folder.glob("logistic_wine/*/record.json"))) == 1
    assert (folder / ".multirun").is_dir()
    assert not list(elsewhere.iterdir())
