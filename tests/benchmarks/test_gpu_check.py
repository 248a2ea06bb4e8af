"""The checks for a GPU, on the CPU: all that they do there but what only a GPU has."""

import pytest
import torch
import warm

from benchmarks import gpu_check, gpu_checks, kernel_cases
from benchmarks.gpu_check import Outcome
from benchmarks.shapes import Model
from dog.kernels import fused

CPU = torch.device("cpu")
TINY = Model("tiny", lambda: [(64, 32), (64,)])
QUICK = {
    "kernels against the reference": {"block": 32},
    "torch.compile": {"backend": "aot_eager"},
    "time of a step": {"models": (TINY,), "steps": 3},
    "replicas": {"seeds": 1, "steps": 20},
    "two runs at once, one killed and resumed": {"task": "probe_cifar"},
}


@pytest.mark.parametrize("name", gpu_checks.CHECKS)
def test_check_passes_on_the_cpu(name, monkeypatch):
    def start(device, folder, *keys):
        return warm.Process(["run.py", *keys, f"device={device}", f"runs_dir={folder}"])

    monkeypatch.setattr(gpu_checks, "_start", start)
    found = gpu_checks.CHECKS[name](CPU, **QUICK.get(name, {}))
    assert found.partition("\n")[0]


def test_wrong_kernel_fails_its_check(monkeypatch):
    right = fused.update

    def wrong(bundle, eta, *rest):
        return right(bundle, 1.001 * eta, *rest)

    monkeypatch.setattr(fused, "update", wrong)
    for name in ("kernels against the reference", "steps against the reference"):
        with pytest.raises(AssertionError):
            gpu_checks.CHECKS[name](CPU)


def test_step_that_waits_fails_its_check(monkeypatch):
    right = kernel_cases.DoG.step

    def waiting(self):
        right(self)
        self.param_groups[0]["params"][0].sum().item()

    monkeypatch.setattr(kernel_cases.DoG, "step", waiting)
    with pytest.raises(AssertionError, match="waits"):
        gpu_checks.steps(CPU)


def test_without_a_gpu_one_line_says_so_and_the_status_is_2():
    process = warm.run(["-m", "benchmarks.gpu_check"])
    assert process.returncode == 2 and process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert line.startswith("error: torch sees no GPU")


CHILD = """
import sys, time
name = sys.argv[-2]
if name == "crashes":
    sys.exit("error: illegal memory access")
if name == "hangs":
    time.sleep(60)
print("all well\\n| a | table |")
"""


def test_check_that_crashes_or_hangs_leaves_the_others_alone(tmp_path, monkeypatch):
    tmp_path.joinpath("made_up_check.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(gpu_check, "EACH", 3.0)
    outcomes = gpu_check.checked(["crashes", "hangs", "works"], "made_up_check")
    assert [o.result for o in outcomes] == ["FAILED", "FAILED", "ok"]
    assert [o.detail for o in outcomes] == [
        "illegal memory access",
        "not over after 3 s",
        "all well",
    ]
    assert outcomes[-1].more == "| a | table |"
    monkeypatch.setattr(gpu_check, "ALL", 0.0)
    (late,) = gpu_check.checked(["works"], "made_up_check")
    assert (late.result, late.detail) == ("FAILED", "no time left")


def test_document_ends_in_a_table_with_a_row_for_each_check(monkeypatch, tmp_path, capsys):
    outcomes = [
        Outcome("one", "ok", "fast", 1.2, "| its | own |"),
        Outcome("two", "FAILED", "a|b", 3),
    ]
    monkeypatch.setattr(gpu_check.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu_check, "checked", lambda names: outcomes)
    monkeypatch.setattr(gpu_check, "header", lambda device: ["device: a GPU"])
    path = tmp_path / "made" / "gpu.md"
    assert gpu_check.main(["--output", str(path)]) == 1
    text = path.read_text()
    assert capsys.readouterr().out == text
    assert "## one\n\n| its | own |\n" in text
    assert text.endswith("| one | ok | 1 | fast |\n| two | FAILED | 3 | a/b |\n")
