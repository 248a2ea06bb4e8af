"""Texts, pairs of texts and numbers, worked out by hand."""

import numpy as np
import pytest
import torch

from runner import config
from runner.run import build_task, run
from tasks.data.readers import Examples
from tasks.language import columns


def made_up(task, *overrides):
    return config.load([f"task={task}", "task.synthetic=true", *overrides])


def rows(*lists):
    return [np.array(row, dtype=np.int32) for row in lists]


def test_batches_are_as_long_as_their_longest_text():
    task = build_task(made_up("mrpc"))
    tokens = {
        "input_ids": rows([5], [6, 7, 1], [8, 1]),
        "token_type_ids": rows([0], [0, 1, 1], [0, 1]),
    }
    inputs = {
        name: tensor.tolist() for name, tensor in task.padded(tokens, torch.tensor([2, 0])).items()
    }
    assert inputs == {
        "input_ids": [[8, 1], [5, 0]],
        "token_type_ids": [[0, 1], [0, 0]],
        "attention_mask": [[1, 1], [1, 0]],
    }


def test_texts_and_pairs_have_a_list_for_each_column():
    assert columns(Examples(["a", "b"], np.zeros(2))) == [["a", "b"]]
    assert columns(Examples([("a",), ("b",)], np.zeros(2))) == [["a", "b"]]
    assert columns(Examples([("a", "x"), ("b", "y")], np.zeros(2))) == [["a", "b"], ["x", "y"]]


def test_pairs_are_cut_to_the_protocols_length_and_both_remain():
    task = build_task(made_up("mrpc", "train.max_tokens=8"))
    tokens = task.tokens["train"]["input_ids"][0]
    assert len(tokens) == 8 and (tokens == task.tokenizer.eos_token_id).sum() == 2


def test_regression_learns_by_squared_error_and_nothing_is_right_or_wrong():
    task = build_task(made_up("stsb"))
    outputs = torch.tensor([[1.0], [4.0]])
    assert task.loss(outputs, torch.tensor([2.0, 2.0], dtype=torch.float64)).item() == 2.5
    labels = task.splits["test"].labels
    assert task.score("test", labels) == pytest.approx(1) and task.correct("test", labels) is None
    assert task.majority("test") == 0
    assert task.network().classifier.out_proj.out_features == 1


@pytest.mark.parametrize("task", ["mnli", "stsb", "squad"])
def test_made_up_problems_can_be_learnt(task, tmp_path):
    overrides = ["opt=adam", "opt.lr=0.003", "train.steps=150", "train.eval_every=1000"]
    quiet = ["wandb.mode=disabled", "progress=false", f"runs_dir={tmp_path}"]
    record = run(made_up(task, *overrides, *quiet)).plain()
    results = record["results"]
    assert results["test"]["last"] > 0.8
    # Bits tell what is right or wrong; of numbers the record has the answers, with four digits.
    assert set(results["test_correct"]) == (set() if task == "stsb" else {"last", "averaged"})
    assert ("test_predictions" in results) == (task == "stsb")
    for iterate, answers in results.get("test_predictions", {}).items():
        score = build_task(made_up(task)).score("test", np.array(answers))
        assert score == pytest.approx(results["test"][iterate], abs=1e-4)
