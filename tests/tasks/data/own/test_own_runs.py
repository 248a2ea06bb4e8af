"""Own tables train like any other task, and a file that changes is another data set."""

import numpy as np
import pytest
import tiny
from conftest import with_changes
from reviews import TEXT_LABEL, reviews, write_csv

from runner import config
from runner.run import build_task, run
from tasks.data.own.inspect import inspect
from tasks.errors import UserError


@pytest.fixture
def trained(tmp_path):
    """Inspect and train; return what was found, and the record."""

    def train(path, *words, **columns):
        found = inspect(path, data_dir=tmp_path / "data", **columns)
        folders = [f"runs_dir={tmp_path / 'runs'}", f"data_dir={tmp_path / 'data'}"]
        loaded = config.load([*found.overrides, *tiny.RUN, *folders, *words])
        return found, run(with_changes(loaded, tiny.CHANGES))

    return train


@pytest.mark.parametrize("form", ["texts", "pairs"])
def test_texts_train_and_a_changed_file_is_another_run(form, trained, tmp_path):
    rows, names = reviews(), ("a, 'text'", "label")
    if form == "pairs":
        rows, names = (
            [(text, "is it?", label) for text, label in rows],
            ("premise", "hypothesis", "y"),
        )
    path = write_csv(tmp_path / "own films, 1 (new).csv", rows, names)
    found, record = trained(path)
    assert record.status == "finished" and record.results.steps == 3
    for part in ("validation", "test"):
        assert getattr(record.results, part).examples == len(found.part(part))
    write_csv(path, [*rows, (*("more",) * (len(names) - 1), "good")], names)
    _, again = trained(path)
    assert again.run_id != record.run_id and again.data_id != record.data_id


def test_regression_trains_and_is_scored_by_correlation(trained, tmp_path):
    rows = [(text, 1000 + n * 1.5) for n, (text, _) in enumerate(reviews())]
    found, record = trained(write_csv(tmp_path / "prices.csv", rows, ("text", "price")))
    assert record.settings["task"]["metric"] == "pearson" and record.status == "finished"
    assert abs(np.concatenate([found.part("train").labels]).mean()) < 1e-9


def test_metric_is_the_users_choice(trained, tmp_path):
    path = write_csv(tmp_path / "films.csv", reviews(), TEXT_LABEL)
    _, record = trained(path, "task.metric=balanced_accuracy")
    assert record.results.test.majority == 0.5


def test_text_to_text_network_is_asked_with_both_texts_of_a_pair(tmp_path):
    rows = [(text, "is it?", f"word{len(label)}") for text, label in reviews()]
    path = write_csv(tmp_path / "pairs.csv", rows, ("premise", "hypothesis", "label"))
    words = ["task=own_texts", f"task.data.path={path}", "model=t5_base", *tiny.RUN]
    task = build_task(with_changes(config.load(words), tiny.CHANGES))
    assert task._prompts(task.splits["test"])[0].endswith("they say is it?")


def test_label_of_another_kind_than_the_task_is_refused(tmp_path):
    path = write_csv(tmp_path / "films.csv", reviews(), TEXT_LABEL)
    words = ["task=own_text_regression", f"task.data.path={path}", *tiny.RUN]
    with pytest.raises(UserError, match="label has 'bad', which is no number"):
        run(with_changes(config.load([*words, f"runs_dir={tmp_path}"]), tiny.CHANGES))
    words = ["task=own_images", f"task.data.path={path}", "model=wrn28_10", f"runs_dir={tmp_path}"]
    with pytest.raises(UserError, match="holds texts: say task=own_texts"):
        run(config.load([*words, "wandb.mode=disabled"]))
