"""scripts/tables.py makes everything from records, quickly and without torch."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import made_up_records as made_up
import pytest
import warm

from analysis import report

ROOT = Path(__file__).parents[2]


def run(*arguments):
    return warm.run(["scripts/tables.py", *arguments])


def run_python(*arguments):
    """Run Python as a process that has imported nothing."""
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture
def results(tmp_path):
    for seed in (100, 0, 1):
        made_up.write(tmp_path / "runs", made_up.record(0.8, opt="dog", seed=seed))
        for rate in (0.01, 0.1):
            changed = {} if rate == 0.01 else {"lr": rate}
            made_up.write(tmp_path / "runs", made_up.record(rate, seed=seed, changed=changed))
    return tmp_path


def test_it_writes_records_tables_and_figures_and_prints_the_wanted_table(results):
    problem_id = made_up.record(0.8)["problem_id"]
    done = run("--results", results, "--problems", problem_id)
    assert (done.returncode, done.stderr) == (0, "")
    assert "| DoG " in done.stdout and "9 runs" in done.stdout
    stem = "cifar-efficientnet_lite0-lite"
    files = ["records.csv", "tables/summary.md", "tables/summary.csv", f"figures/{stem}.svg"]
    for name in [*files, f"tables/{stem}.md", f"tables/{stem}.csv"]:
        assert (results / name).is_file()
    assert f"{stem}.svg" in done.stdout and "models-lite.md" in done.stdout
    assert "| DoG " not in run("--results", results).stdout


def test_what_a_sweep_reports_is_of_its_own_runs(results):
    """Somebody's rows have a better rate than any of its own."""
    own = {path.name for path in (results / "runs").glob("*/*")}
    for seed in (100, 0):
        other = made_up.record(0.9, seed=seed, changed={"lr": 1.0})
        made_up.write(results / "runs", other)
    printed = report.write_results(results / "runs", results, [other["problem_id"]], own)
    tuned = [line for line in printed.splitlines() if "instance-tuned " in line]
    assert len(tuned) == 1 and "| 0.1 † |" in " ".join(tuned[0].split())
    assert "are also of 2 other runs of the same problems" in printed
    table = (results / "tables" / "cifar-efficientnet_lite0-lite.md").read_text()
    assert "| 1 † |" in " ".join(table.split())


def test_the_runs_may_lie_elsewhere(results, tmp_path):
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    assert run("--results", results, "--runs", tmp_path / "elsewhere").returncode == 0


@pytest.mark.parametrize("arguments", [[], ["--problems", "unknown"]])
def test_bad_input_is_one_line_and_status_2(results, tmp_path, arguments):
    folder = results if arguments else tmp_path / "empty"
    done = run("--results", folder, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no runs") and done.stderr.count("\n") == 1
    assert not (folder / "tables").exists()


def test_a_damaged_record_is_a_warning_and_the_rest_is_made(results):
    made_up.write(results / "runs", made_up.record(0.8, seed=4)).write_text("{")
    done = run("--results", results)
    assert done.returncode == 0
    assert done.stderr.startswith("warning: ") and done.stderr.count("\n") == 1


def test_it_imports_neither_torch_nor_hydra(results):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['tables.py', '--results', {str(results)!r}]\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'scripts' / 'tables.py')!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "import analysis.figures, analysis.all_tables\n"
        "heavy = {'torch', 'hydra', 'omegaconf', 'wandb', 'scipy.stats'}\n"
        "print('imported:', sorted(heavy & set(sys.modules)))\n"
    )
    done = run_python("-c", code)
    assert done.stdout.splitlines()[-1] == "imported: []", done.stderr


def test_a_thousand_records_take_less_than_ten_seconds(tmp_path):
    count = 0
    for task in range(4):
        for opt, grid in made_up.GRIDS.items():
            for rate in grid.get("lr", [None]):
                changed = {} if rate in (None, made_up.DEFAULTS[opt]["lr"]) else {"lr": rate}
                for seed in (100, *range(36)):
                    where = {"task": f"task{task}", "model": f"model{task % 3}"}
                    score = 0.5 + ((task * 7 + seed * 3 + count) % 40) / 100
                    record = made_up.record(score, opt=opt, seed=seed, changed=changed, **where)
                    made_up.write(tmp_path / "runs", record)
                    count += 1
    assert count >= 1000
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run_python(ROOT / "scripts" / "tables.py", "--results", tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert f"{count} runs" in done.stdout, done.stderr
    # Processor time: another job on this machine must not fail the test.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10
