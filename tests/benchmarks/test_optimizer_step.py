"""The table of what a step costs: its counts are right, and its rows are all there."""

import csv
import math
import re
import sys

import pytest
import torch
from torch import nn

import dog
from benchmarks import contestants, measuring, optimizer_step, published, shapes
from benchmarks.contestants import REFERENCE, find_contestants
from benchmarks.counting import Traffic, held_bytes
from runner import config
from tasks.data.sources import is_fetched
from tasks.data.storage import default_data_dir
from tasks.errors import UserError

CPU = torch.device("cpu")
CONTESTANTS = find_contestants()
SHAPES = [(64, 32), (512,), (16, 4, 8)]
COUNT = sum(math.prod(shape) for shape in SHAPES)
OURS = [name for name in CONTESTANTS if name.startswith(("dog_", "ldog_"))]
needs_published = pytest.mark.skipif(
    not is_fetched(published.source(), default_data_dir()),
    reason="needs the package dog-optimizer to compare with: run make prepare",
)


def count(name):
    return measuring.Stand(SHAPES, CPU).count(CONTESTANTS[name])


# Traffic ------------------------------------------------------------------------------------------


def counted(function, *arguments, **options):
    with Traffic(**options) as traffic:
        function(*arguments)
    return traffic


def test_operators_read_arguments_and_write_results():
    x, y = torch.ones(1000), torch.ones(1000)

    def steps():
        z = x * 2  # reads 4000, writes 4000
        z.add_(y)  # reads 8000, writes 4000
        z.lerp_(y, 0.5)  # reads 8000, writes 4000
        z.copy_(y)  # reads 4000, writes 4000
        torch.add(x, y, out=z)  # reads 8000, writes 4000
        torch._foreach_add_([x, z], [y, y])  # reads 12000, of x, z and y, writes 8000
        torch.dot(x, x)  # reads 4000
        torch.zeros_like(x)  # writes 4000: memory is filled

    traffic = counted(steps)
    assert traffic.bytes == 84000
    assert traffic.syncs == 0 and traffic.calls == 8
    assert traffic.by_operator["aten.lerp_.Scalar"] == 12000


def test_views_and_allocations_move_nothing():
    x = torch.ones(100, 10)
    traffic = counted(
        lambda: (x.t().reshape(10, 100).view(10, 10, 10)[0].detach(), x.expand(5, -1, -1))
    )
    copied = counted(lambda: x.t().reshape(-1))  # the one view that has to be a copy
    assert counted(lambda: (x.view(-1), x[0], torch.empty_like(x), x.shape, x.detach())).calls == 0
    assert copied.bytes == 8000
    assert traffic.bytes == 0 and traffic.calls == 0


def test_an_expanded_tensor_is_what_lies_in_memory():
    constant = torch.ones(1).expand(1000)
    assert counted(lambda: torch.ones(1000).sub_(constant), smallest=0).bytes == 4000 + 8000 + 4


def test_small_tensors_are_left_out():
    x = torch.ones(4)
    assert counted(x.add_, 1).bytes == 0 and counted(x.add_, 1).calls == 1
    assert counted(x.add_, 1, smallest=0).bytes == 32


def test_reads_by_the_host_are_syncs():
    x = torch.ones(3)
    for read in (lambda: x[0].item(), lambda: bool(x.sum() > 0), lambda: x[x > 0], x.nonzero):
        assert counted(read).syncs == 1
    assert counted(lambda: x.add_(x, alpha=x[1])).syncs == 1
    assert counted(lambda: x[torch.tensor([1, 2])]).syncs == 0
    counter = torch.tensor(1.0)
    assert counted(counter.item, on_host=[counter]).syncs == 0


def test_fused_optimizers_of_torch_only_read_the_gradients():
    assert count("sgd_momentum_fused").bytes == 20 * COUNT
    assert count("adamw_fused").bytes == 28 * COUNT


def test_memory_counts_each_storage_once():
    p = nn.Parameter(torch.ones(1000))
    owner = type("Owner", (), {})()
    owner.state = {p: {"same": p.view(10, 100), "constant": torch.ones(1).expand(1000)}}
    kept = torch.ones(50)
    owner.lists = [kept, (kept[1:],), {"deep": [torch.ones(2)]}, owner]
    assert held_bytes([owner], without=[p]) == 4 + 200 + 8


# Counts of the optimizers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "moved"),
    [("dog_fused", 20), ("dog_fused_averaging", 28), ("ldog_fused_averaging", 28)],
)
def test_fused_steps_move_as_few_bytes_as_can_be(name, moved):
    assert count(name).bytes == moved * COUNT


@pytest.mark.parametrize("name", OURS)
def test_our_steps_never_wait_and_keep_a_copy_or_two(name):
    found = count(name)
    copies = 2 if "averaging" in name else 1
    assert found.syncs == 0
    assert 4 * copies <= found.memory / COUNT < 4 * copies + 1  # and some numbers


@needs_published
@pytest.mark.real_data
@pytest.mark.parametrize(("name", "copies"), [("published_dog", 1), ("published_dog_averager", 2)])
def test_published_steps_wait_for_every_tensor(name, copies):
    found = count(name)
    assert found.syncs == len(SHAPES) + 1
    assert found.bytes == {1: 40, 2: 60}[copies] * COUNT
    assert 4 * copies <= found.memory / COUNT < 4 * copies + 1


def test_other_optimizers_hold_what_they_are_known_for():
    assert count("sgd_foreach").memory == 0
    assert count("sgd_momentum_foreach").memory == 4 * COUNT
    assert count("adamw_foreach").syncs == 0  # its step counters are on the host
    assert 8 <= count("adamw_foreach").memory / COUNT < 8.1


# Timing -------------------------------------------------------------------------------------------


def test_everyone_makes_the_same_steps():
    stand = measuring.Stand(SHAPES, CPU)
    seconds = stand.race({name: CONTESTANTS[name] for name in ("dog_fused", REFERENCE)}, 3)
    assert {name: len(times) for name, times in seconds.items()} == {"dog_fused": 3, REFERENCE: 3}
    assert all(time > 0 for times in seconds.values() for time in times)


def test_weights_stay_where_they_are():
    stand = measuring.Stand(SHAPES, CPU)
    for name in ("dog_fused", "published_dog", "adamw_foreach"):
        try:
            entrant = measuring.Entrant(CONTESTANTS[name], stand)
        except contestants.NotInstalledError:
            continue
        for turn in range(60):
            stand.renew(turn)
            entrant.step()
        for p, start in zip(entrant.params, stand.weights, strict=True):
            assert not torch.equal(p, start)
            torch.testing.assert_close(p.detach(), start, rtol=0, atol=1e-3)


def test_weights_that_are_not_finite_give_no_time():
    broken = contestants.Contestant(
        "", lambda model: [torch.optim.SGD(model.parameters(), 1e30, weight_decay=1e30)]
    )
    with pytest.raises(RuntimeError, match="broken has made weights that are not finite"):
        measuring.Stand(SHAPES, CPU).race({"broken": broken}, 1)


def test_batches_fit_into_memory_and_all_have_the_reference(monkeypatch):
    stand = measuring.Stand([(1000,)], CPU)
    monkeypatch.setattr(measuring, "_free_memory", lambda device: 60000)  # a limit of 12000
    needs = {"a": 0, "b": 0, REFERENCE: 0, "c": 4000, "huge": 10**9}
    batches = list(stand.batches(needs))
    assert batches == [[REFERENCE, "a", "b"], [REFERENCE, "c"], [REFERENCE, "huge"]]


# The table ----------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(shapes.MODELS, "tiny", shapes.Model("Tiny", lambda: SHAPES))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def table(tmp_path, *words):
    output = tmp_path / "folder" / "table.md"
    optimizer_step.main([*words, "--steps", "2", "--output", str(output)])
    with output.with_suffix(".csv").open() as file:
        return output.read_text(), {row["optimizer"]: row for row in csv.DictReader(file)}


def test_the_table_has_a_row_for_each_optimizer(tiny, tmp_path, capsys):
    text, rows = table(tmp_path, "--models", "tiny", "--optimizers", "dog_fused", "adamw_foreach")
    assert capsys.readouterr().out == text
    assert list(rows) == ["dog_fused", REFERENCE, "adamw_foreach"]
    for name, row in rows.items():
        assert f"| {CONTESTANTS[name].title} | " in text
        assert row["status"] == "measured" and float(row["milliseconds"]) > 0
        assert row["gigabytes_per_second"] == "not measured"
    assert float(rows[REFERENCE]["ratio"]) == 1
    assert float(rows["dog_fused"]["bytes_per_parameter"]) == 20
    assert (
        "`python -m benchmarks.optimizer_step --models tiny --optimizers dog_fused adamw_foreach "
        "--steps 2`" in text
    )
    assert str(tmp_path) not in text


def test_all_optimizers_are_in_the_table(tiny, tmp_path):
    text, rows = table(tmp_path, "--models", "tiny")
    assert list(rows) == list(CONTESTANTS)
    assert {row["status"].split(":")[0] for row in rows.values()} <= {"measured", "not installed"}
    cells = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert len(cells) == len(CONTESTANTS) + 2 and len(set(cells)) == 1


def test_a_missing_package_is_a_row(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "prodigyopt", None)  # as if it were not installed
    monkeypatch.setattr(contestants, "is_fetched", lambda *_: False)
    text, rows = table(tmp_path, "--models", "tiny", "--optimizers", "prodigy", "published_dog")
    assert rows["prodigy"]["status"] == f"not installed: `{contestants.EXTRA}`"
    assert rows["published_dog"]["status"] == "not installed: `make prepare`"
    assert rows["prodigy"]["milliseconds"] == "not measured"
    assert re.search(r"\| Prodigy \(`opt=prodigy`\) \| not installed: ", text)


def test_every_yaml_is_measured_with_its_arguments(tiny, tmp_path, monkeypatch):
    yamls = [name for name, contestant in CONTESTANTS.items() if contestant.opt]
    assert yamls == config.options("opt")
    _, rows = table(tmp_path, "--models", "tiny", "--optimizers", "adagrad_norm", "sps_max")
    assert {name: row["opt"] for name, row in rows.items()} == {
        REFERENCE: "",
        "adagrad_norm": "adagrad_norm",
        "sps_max": "sps_max",
    }
    (stepped,) = CONTESTANTS["adagrad_norm"].build(nn.Linear(2, 1))
    group = stepped.optimizer.param_groups[0]
    assert {name: group[name] for name in ("lr", "b0")} == {"lr": 1.0, "b0": 1e-4}


@pytest.mark.parametrize("way", ["plain", "loss", "closure"])
def test_a_step_is_called_as_the_yaml_says(way, monkeypatch):
    calls = []

    class Optimizer(torch.optim.SGD):
        def step(self, closure=None, loss=None):
            calls.append("closure" if closure else "plain" if loss is None else "loss")

    spec = config.load(["opt=sgd"]).spec.opt.model_copy(update={"step": way})
    monkeypatch.setattr(contestants, "_spec", lambda opt: spec)
    monkeypatch.setattr(torch.optim, "SGD", Optimizer)
    (stepped,) = CONTESTANTS["sgd"].build(nn.Linear(2, 1))
    stepped.step()
    assert calls == [way]


def test_a_slow_optimizer_gets_fewer_steps_or_none(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "SECONDS", 0)
    monkeypatch.setattr(measuring, "FEWEST", 1)
    seconds = measuring.Stand(SHAPES, CPU).race({REFERENCE: CONTESTANTS[REFERENCE]}, 5)
    assert len(seconds[REFERENCE]) == 1
    monkeypatch.setattr(measuring, "TOO_SLOW", -1)
    with pytest.raises(measuring.TooSlowError):
        count(REFERENCE)


def test_what_needs_a_gpu_is_not_measured_without(tiny, tmp_path):
    text, rows = table(tmp_path, "--models", "tinyllama", "--optimizers", "dog_fused")
    assert "## TinyLlama-1.1B: 1,100.0 M parameters\n\nNot measured: needs a GPU.\n" in text
    assert rows["dog_fused"]["status"] == "not measured: needs a GPU"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models", "gpt"], "no model 'gpt'"),
        (["--optimizers", "dog_fused", "lion"], "no optimizer 'lion'"),
        (["--steps", "0"], "at least 1"),
        (["--steps", "many"], "invalid int value"),
        (["--sweep"], "unrecognized arguments"),
        (["--output", "table.csv"], "markdown"),
    ],
)
def test_a_wrong_word_is_bad_input(words, message):
    with pytest.raises(UserError, match=message):  # a line and status 2, by runner.cli
        optimizer_step.main(words)


def test_models_have_as_many_parameters_as_the_real_ones():
    counts = {name: shapes.MODELS[name].count for name in ("minilm", "vit", "tinyllama")}
    assert counts == {"minilm": 22_713_216, "vit": 88_224_232, "tinyllama": 1_100_048_384}


def test_averaging_in_the_step_saves_a_pass():
    """Beside an averager of its own: 28 bytes a parameter, not 32."""
    params = [nn.Parameter(torch.randn(64, 64))]
    optimizer = dog.DoG(params, implementation="fused")
    averager = dog.PolynomialDecayAverager(nn.ParameterList(params))
    for _ in range(3):
        params[0].grad = torch.ones(64, 64)
        optimizer.step()
        averager.step()
    traffic = counted(lambda: (optimizer.step(), averager.step()))
    assert traffic.bytes == 32 * 64 * 64
