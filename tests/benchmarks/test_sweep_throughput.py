"""The benchmark of a sweep's throughput: the grid that it times, and the table that it writes."""

from collections import Counter

from benchmarks import sweep_throughput
from benchmarks.sweep_throughput import Growth, Way


def test_grid_has_every_rate_of_both_and_dog_on_five_seeds(tmp_path):
    runs = sweep_throughput.grid(tmp_path)
    optimizers = Counter(run.optimizer for run in runs)
    assert optimizers == {"sgd": 50, "adam": 45, "dog": 5, "ldog": 5}
    assert len({run.run_id for run in runs}) == sweep_throughput.ALL
    one_seed = sweep_throughput._of_seeds(runs, 1)
    assert Counter(run.optimizer for run in one_seed) == {
        "sgd": 10, "adam": 9, "dog": 1, "ldog": 1,
    }  # fmt: skip


def test_table_has_what_each_way_gains(tmp_path):
    ways = [
        Way("one process a run", 21, 800.0, 900.0),
        Way("in sequence", 105, 200.0, 900.0),
        Way("replicas", 105, 40.0, 1000.0),
    ]
    path = tmp_path / "table.md"
    sweep_throughput._write(ways, [Growth(10, 5.0, 900.0)], ["train.steps=9"], path)
    text = path.read_text()
    assert "`python -m benchmarks.sweep_throughput train.steps=9`" in text
    line = next(line for line in text.splitlines() if line.startswith("| replicas "))
    assert [cell.strip() for cell in line.split("|")[2:-1]] == ["105", "40", "1,000", "20", "5"]
    assert "replicas,105,40.0,1000.0,20.0,5.0" in path.with_suffix(".csv").read_text()
