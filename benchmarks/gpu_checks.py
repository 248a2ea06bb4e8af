"""What is checked on a GPU, each by a function of the device that returns what it has found.

The device may be the CPU, in tests: all but what only a GPU has is done there as well. What is
wrong is raised, mostly as an AssertionError.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import kernel_cases, optimizer_step
from benchmarks.counting import Traffic
from benchmarks.kernel_cases import TOLERANCE, assert_close, bundle_of
from benchmarks.shapes import MODELS, Model
from dog import DoG, LDoG, PolynomialDecay
from dog.kernels import foreach, fused

ROOT = Path(__file__).parents[1]
IMPLEMENTATIONS = ("reference", "foreach", "fused")
# Elements that a Triton kernel does at once: tensors around that size are the interesting ones.
BLOCK = 1024
TIMED = ("dog_fused", "dog_fused_averaging", "dog_foreach", "adamw_fused", "sgd_momentum_fused")
QUIET = ("task.synthetic=true", "wandb.mode=disabled", "progress=false")
# A checkpoint after every step, so that a kill at any moment leaves one.
RESUMABLE = ("opt=dog", "train.steps=60", "log_every=1", "checkpoint_seconds=0.0001")


# The step ----------------------------------------------------------------------------------------


def kernels(device: torch.device, block: int = BLOCK) -> str:
    """Compare each pass over memory with the reference, in every type."""
    passes = {"fused": fused, "foreach": foreach}
    done = 0
    for implementation in passes.values():
        for dtype in TOLERANCE:
            for averaged, compensated, decay, scale in (
                (True, False, 0.3, 3.0),
                (False, True, 0.0, None),
            ):
                make = {"averaged": averaged, "compensated": compensated, "weight_decay": decay}
                bundles = (bundle_of(dtype, block, device, **make) for _ in range(3))
                kernel_cases.compare_measures(implementation, next(bundles), scale)
                kernel_cases.compare_step(implementation, next(bundles), averaged, scale)
                kernel_cases.refuse_step(implementation, next(bundles))
                done += 3
        for size in (1e-30, 1e25):
            bundle = bundle_of(torch.float32, block, device)
            kernel_cases.square_extremes(implementation, bundle, size)
            done += 1
    kind = "Triton" if device.type == "cuda" else "C"
    return f"{done} cases of fused ({kind}) and foreach agree with the reference"


def steps(device: torch.device) -> str:
    """Train with each implementation as with the reference; no step waits for the device."""
    for implementation in ("foreach", "fused"):
        for optimizer_class in (DoG, LDoG):
            for dtype in (torch.float32, torch.float64):
                for options in ({}, {"weight_decay": 0.1, "max_grad_norm": 1.0}):
                    kernel_cases.compare_training(
                        optimizer_class, dtype, implementation, device, **options
                    )
    for implementation in IMPLEMENTATIONS:
        run = _Run(device, implementation)
        with _no_wait(device), Traffic(device=device.type) as traffic:
            run.step()
        assert traffic.syncs == 0, f"{implementation}: the host waits {traffic.syncs} times"
    return "DoG and L-DoG train as with the reference, one step skipped; no step waits"


class _Run:
    """DoG on fixed tensors, whose gradients follow from the weights: two runs can be compared."""

    def __init__(self, device: torch.device, implementation: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        shapes = [(300, 70), (70,), (5000,)]
        starts = [torch.randn(shape, generator=generator).to(device) for shape in shapes]
        self.params = [nn.Parameter(x) for x in starts]
        self.targets = [x + 0.1 * torch.ones_like(x) for x in starts]
        self.optimizer = DoG(
            self.params,
            reps_rel=1e-3,
            averaging=PolynomialDecay(),
            max_grad_norm=5.0,
            implementation=implementation,
        )
        for p in self.params:
            p.grad = torch.empty_like(p)
        for _ in range(3):  # the first step looks at x_0
            self.step()

    @torch.no_grad()
    def write_gradients(self) -> None:
        for p, target in zip(self.params, self.targets, strict=True):
            assert p.grad is not None
            torch.sub(p, target, out=p.grad)

    def step(self) -> None:
        self.write_gradients()
        self.optimizer.step()

    def assert_like(self, other: "_Run") -> None:
        assert_close(self.params, other.params, 1e-6)
        mine, theirs = self.optimizer.telemetry()[0], other.optimizer.telemetry()[0]
        assert mine["step"] == theirs["step"], (mine, theirs)
        assert abs(mine["eta"] / theirs["eta"] - 1) < 1e-5, (mine, theirs)
        states = (self.optimizer.state, other.optimizer.state)
        averages = [[state[p]["average"] for p in state] for state in states]
        assert_close(*averages, 1e-6)


def cuda_graph(device: torch.device) -> str:
    """Replay a captured step as if it were made anew."""
    replayed = 0
    for implementation in IMPLEMENTATIONS:
        eager, captured = _Run(device, implementation), _Run(device, implementation)
        replay = _graph_of(captured.step, device)
        for _ in range(10):
            eager.step()
            replay()
            replayed += 1
        captured.assert_like(eager)
    return f"{replayed} replays of captured steps give the weights of eager ones"


def compiled(device: torch.device, backend: str = "inductor") -> str:
    """Compile a step to one graph that does what the step does."""
    for implementation in IMPLEMENTATIONS:
        torch._dynamo.reset()
        eager, other = _Run(device, implementation), _Run(device, implementation)
        step = torch.compile(other.optimizer.step, fullgraph=True, backend=backend)
        for _ in range(5):
            eager.step()
            other.write_gradients()
            step()
        other.assert_like(eager)
    return f"torch.compile(fullgraph=True) with {backend} gives the weights of eager steps"


def step_times(
    device: torch.device,
    models: Sequence[Model] = (MODELS["minilm"], MODELS["vit"]),
    steps: int = 30,
) -> str:
    """Time a step beside fused AdamW's, and its bandwidth beside a copy's."""
    parts, ratios = [], []
    for model in models:
        rows = optimizer_step.measured("", model, TIMED, steps, device)
        times = {row.optimizer: row.milliseconds for row in rows}
        assert None not in times.values(), times
        parts.append(f"**{model.title}**\n\n{optimizer_step.table(rows)}")
        ratio = times["dog_fused"] / times["adamw_fused"]
        ratios.append(f"{model.title}: DoG {ratio:.2f} × fused AdamW's time")
    note = "The columns are those of optimizer_step.md, which says what they are."
    return f"{'; '.join(ratios)}\n" + "\n\n".join([note, *parts])


# Precision ---------------------------------------------------------------------------------------


def precision(device: torch.device, steps: int = 200) -> str:
    """Train in bf16 autocast, with a GradScaler, and in pure bf16."""
    found = {
        name: _trained(device, steps, **options)
        for name, options in {
            "float32": {},
            "bf16 autocast": {"autocast": torch.bfloat16},
            "fp16 with GradScaler": {"autocast": torch.float16, "scale": True},
            "pure bf16": {"dtype": torch.bfloat16},
        }.items()
    }
    first, plain = found["float32"]
    for name, (_, last) in found.items():
        assert last < 0.2 * first and last < 2 * plain, f"{name}: the loss {first} became {last}"
    rbars = [_rbar(device, dtype) for dtype in (torch.bfloat16, torch.float64)]
    assert abs(rbars[0] / rbars[1] - 1) < 0.01, f"pure bf16: r̄ is {rbars[0]}, not {rbars[1]}"
    losses = ", ".join(f"{name} {last:.3g}" for name, (_, last) in found.items())
    return f"the loss fell from {first:.3g} to: {losses}; r̄ of pure bf16 is float64's within 1 %"


def _trained(
    device: torch.device,
    steps: int,
    dtype: torch.dtype = torch.float32,
    autocast: torch.dtype | None = None,
    scale: bool = False,
) -> tuple[float, float]:
    """Train a small network; return the loss of the first steps and that of the averages."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 4)).to(device, dtype)
    optimizer = DoG(model.parameters(), reps_rel=1e-4, averaging=PolynomialDecay())
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**10, enabled=scale)
    inputs = torch.randn(512, 16).to(device, dtype)
    targets = inputs.float()[:, :4].argmax(dim=1)

    def loss(examples: slice) -> Tensor:
        with torch.autocast(device.type, autocast, enabled=autocast is not None):
            outputs = model(inputs[examples])
        return nn.functional.cross_entropy(outputs.float(), targets[examples])

    first = loss(slice(None)).item()
    for step in range(steps):
        optimizer.zero_grad()
        begin = 64 * (step % 8)
        scaler.scale(loss(slice(begin, begin + 64))).backward()
        scaler.step(optimizer)
        scaler.update()
    with torch.no_grad(), optimizer.averaged():
        return first, loss(slice(None)).item()


def _rbar(device: torch.device, dtype: torch.dtype) -> float:
    """Return how far DoG comes on a quadratic from weights that bfloat16 holds."""
    x0 = torch.randn(4000, generator=torch.Generator().manual_seed(0)).bfloat16()
    p = nn.Parameter(x0.to(device, dtype, copy=True))
    target = x0.to(device, torch.float64) + torch.linspace(-1, 1, 4000).to(device)
    optimizer = DoG([p], reps_rel=1e-8)
    for _ in range(150):
        x = p.detach().double()
        if "compensation" in optimizer.state.get(p, {}):
            x += optimizer.state[p]["compensation"]
        p.grad = (x - target).to(dtype)
        optimizer.step()
    return optimizer.telemetry()[0]["rbar"]


# Runs of the suite -------------------------------------------------------------------------------


def runs(device: torch.device, task: str = "cifar") -> str:
    """Train a small network in two runs at once and kill one; both end as one left alone."""
    keys = [*QUIET, *RESUMABLE, f"task={task}"]
    with tempfile.TemporaryDirectory() as name:
        alone, beside, killed = (Path(name, part) for part in ("alone", "beside", "killed"))
        _finish(_start(device, alone, *keys))
        first, second = (_start(device, folder, *keys) for folder in (beside, killed))
        _wait_for_lines(killed, 20, second)
        second.send_signal(signal.SIGKILL)
        second.communicate()
        assert not _records(killed), "the run was over before it was killed"
        _finish(first)
        _finish(_start(device, killed, *keys))
        (record,) = _records(killed)
        assert record["measured"]["sessions"] > 1
        assert record["hardware"]["device"] == device.type, record["hardware"]
        return "alone, beside another, killed and resumed: " + _compared(alone, beside, killed)


def replicas(device: torch.device, seeds: int = 4, steps: int = 200) -> str:
    """Train runs as replicas of one network; each ends as it does alone."""
    from sweeps import plan
    from sweeps.worker import work

    with tempfile.TemporaryDirectory() as name:
        groups = {}
        for part in ("uncounted", "together", "alone"):
            keys = [*QUIET, f"device={device.type}", f"runs_dir={name}/{part}"]
            cells = plan.load("probes", [*keys, f"train.steps={steps}"]).cells
            groups[part] = [cell.run({}, seed) for cell in cells for seed in range(seeds)]
        work((groups["uncounted"][0],), 1)  # the device's start and the kernels' compilation
        began = time.monotonic()
        outcomes = work(tuple(groups["together"]), 1)
        seconds = [time.monotonic() - began]
        began = time.monotonic()
        outcomes += [outcome for run in groups["alone"] for outcome in work((run,), 1)]
        seconds.append(time.monotonic() - began)
        assert {outcome.status for outcome in outcomes} == {"finished"}, outcomes
        records = _records(Path(name, "together"))
        assert {record["measured"]["replicas"] for record in records} == {len(records)}
        times = f"{len(records)} runs in {seconds[0]:.1f} s, one by one {seconds[1]:.1f} s: "
        return times + _compared(Path(name, "alone"), Path(name, "together"))


def _start(device: torch.device, folder: Path, *keys: str) -> subprocess.Popen:
    words = [sys.executable, "run.py", *keys, f"device={device.type}", f"runs_dir={folder}"]
    return subprocess.Popen(
        words, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.strip().splitlines()[-1:]


def _wait_for_lines(folder: Path, count: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if any(path.read_text().count("\n") >= count for path in folder.glob("*/*/metrics.jsonl")):
            return
        time.sleep(0.005)
    process.kill()
    raise AssertionError(f"the run made no {count} steps: {process.communicate()[1][-300:]}")


def _records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/*/record.json"))]


def _compared(first: Path, *others: Path) -> str:
    """Compare the last training losses of the same runs in folders; return how far they are."""
    losses = [
        {
            path.parent.name: json.loads(path.read_text())["results"]["train_loss"]
            for path in folder.glob("*/*/record.json")
        }
        for folder in (first, *others)
    ]
    assert losses[0] and all(each.keys() == losses[0].keys() for each in losses), losses
    apart = max(
        abs(each[run] - loss) / max(abs(loss), 1e-3)
        for each in losses[1:]
        for run, loss in losses[0].items()
    )
    # Kernels of convolutions may add in another order every time, and training amplifies it.
    assert apart < 0.02, f"losses are {apart:.1%} apart: {losses}"
    return "the same bits" if apart == 0 else f"losses within {apart:.1e} of each other"


# What only a GPU has ------------------------------------------------------------------------------


@contextmanager
def _no_wait(device: torch.device) -> Iterator[None]:
    """Raise where the host waits for the GPU."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.synchronize(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _graph_of(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Return a step's replay; on the CPU the step itself."""
    if device.type != "cuda":
        return step
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


CHECKS: dict[str, Callable[[torch.device], str]] = {
    "kernels against the reference": kernels,
    "steps against the reference": steps,
    "CUDA graph": cuda_graph,
    "torch.compile": compiled,
    "time of a step": step_times,
    "precision": precision,
    "replicas": replicas,
    "two runs at once, one killed and resumed": runs,
}
