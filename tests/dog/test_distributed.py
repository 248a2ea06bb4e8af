"""Several processes together make the steps of one: sharded in every way that torch knows."""

import contextlib
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

sys.path.insert(0, str(Path(__file__).parent))
import processes

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="needs torch with gloo"
)

SCENARIOS = [
    "fully_sharded_with_uneven_shards",
    "bad_gradient_in_one_process_skips_the_step_in_all",
    "averages_come_and_go_bit_for_bit",
    "tensor_parallel_with_whole_tensors_beside",
    "plain_shards",
    "data_parallel",
    "sixteen_bit_start_of_shards",
]
# A mesh of two axes.
OF_FOUR = ["hybrid_sharded", "meshes_that_differ_need_a_group"]
# What needs only that they are several is seen with four.
OF_TWO = SCENARIOS[:2]
BY_SIZE = {2: [*OF_TWO, "resume"], 4: [*SCENARIOS, *OF_FOUR, "resume"]}
CASES = [(name, size) for size, names in BY_SIZE.items() for name in names]


def run(size, scenarios, folder):
    arguments = size, scenarios, str(folder)
    with contextlib.suppress(multiprocessing.ProcessExitedException):
        multiprocessing.start_processes(
            processes.main, arguments, nprocs=size, start_method="forkserver"
        )


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Run all scenarios, because starting processes takes longer than they do."""
    folder = tmp_path_factory.mktemp("processes")
    # Else each process imports torch by itself, which takes longer than its scenarios.
    multiprocessing.set_forkserver_preload(
        [f"torch.distributed.{name}" for name in ("checkpoint", "fsdp", "tensor.parallel")]
    )
    checkpoints = [folder / "of-2", folder / "of-4"]
    run(2, [*OF_TWO, f"save:{checkpoints[0]}"], folder)
    run(4, [*SCENARIOS, *OF_FOUR, f"resume:{checkpoints[0]}", f"save:{checkpoints[1]}"], folder)
    run(2, [f"resume:{checkpoints[1]}"], folder)
    return folder


@pytest.mark.parametrize(("scenario", "size"), CASES)
def test_processes_together_make_the_steps_of_one(scenario, size, outcome):
    report = outcome / f"{scenario}-{size}.failed"
    if report.exists():
        pytest.fail(report.read_text(), pytrace=False)
    assert (outcome / f"{scenario}-{size}.passed").exists(), "one before it has failed"


def test_one_process_without_a_group_needs_no_communication():
    from dog.distributed import Processes

    whole = Processes([torch.nn.Parameter(torch.ones(2))], None)
    assert whole.groups == [] and whole.contributes(torch.ones(2))
