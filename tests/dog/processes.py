"""What test_distributed.py runs in each of several processes."""

import os
import sys
import traceback
import warnings
from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.checkpoint import state_dict as dcp_state
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from dog import DoG, LDoG, PolynomialDecay

STEPS = 6


def network():
    """5 rows do not split evenly over 2 or 4 processes, and 3 leave one of 4 with nothing."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 5), nn.LayerNorm(5), nn.Linear(5, 3, bias=False))


def inputs(t):
    return torch.randn(8, 7, generator=torch.Generator().manual_seed(t))


def train(model, optimizer, steps=range(STEPS), bad_step=None, rank=0):
    for t in steps:
        optimizer.zero_grad()
        (model(inputs(t)) - 1).pow(2).mean().backward()
        if t == bad_step and rank == 0:
            gradient = next(model.parameters()).grad
            (gradient.to_local() if isinstance(gradient, DTensor) else gradient)[0, 0] = torch.inf
        optimizer.step()


def options(**more):
    return {"reps_rel": 1e-2, "weight_decay": 0.1, "averaging": PolynomialDecay(), **more}


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def assert_same_bits_everywhere(optimizer):
    numbers = torch.tensor([list(row.values()) for row in optimizer.telemetry()]).double()
    everywhere = [torch.empty_like(numbers) for _ in range(dist.get_world_size())]
    dist.all_gather(everywhere, numbers)
    assert all(torch.equal(numbers, other) for other in everywhere)


def assert_like_one_process(model, optimizer, optimizer_class, **train_options):
    alone = network()
    reference = optimizer_class(alone.parameters(), **options())
    train(alone, reference, **train_options)
    for ours, theirs in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(whole(ours.detach()), theirs.detach(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            whole(optimizer.state[ours]["average"]),
            reference.state[theirs]["average"],
            rtol=1e-5,
            atol=1e-6,
        )
    for ours, theirs in zip(optimizer.telemetry(), reference.telemetry(), strict=True):
        for name, value in theirs.items():
            assert abs(ours[name] - value) <= 1e-5 * abs(value), (name, ours[name], value)
    assert_same_bits_everywhere(optimizer)


def fsdp2(optimizer_class, implementation="auto", **train_options):
    model = fully_shard(network(), mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    optimizer = optimizer_class(model.parameters(), **options(implementation=implementation))
    train(model, optimizer, rank=dist.get_rank(), **train_options)
    assert_like_one_process(model, optimizer, optimizer_class, **train_options)
    return model, optimizer


def fully_sharded_with_uneven_shards():
    for optimizer_class in (DoG, LDoG):
        for implementation in ("reference", "foreach", "fused"):
            fsdp2(optimizer_class, implementation)


def bad_gradient_in_one_process_skips_the_step_in_all():
    _, optimizer = fsdp2(DoG, bad_step=2)
    assert optimizer.telemetry()[0]["skipped"] == 1


def averages_come_and_go_bit_for_bit():
    """Also for the forward pass: FSDP2 keeps what it has gathered of the root's weights."""
    model = fully_shard(network(), mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    averaging = PolynomialDecay(model=model)
    optimizer = DoG(model.parameters(), **options(averaging=averaging))
    train(model, optimizer)
    sharded = [p for group in optimizer.param_groups for p in group["params"]]
    before = [p.to_local().clone() for p in sharded]
    last = model(inputs(0)).detach()
    with optimizer.averaged():
        for p in sharded:
            assert torch.equal(p.to_local(), optimizer.state[p]["average"].to_local())
        assert not torch.equal(model(inputs(0)), last)
    assert all(torch.equal(p.to_local(), x) for p, x in zip(sharded, before, strict=True))
    assert torch.equal(model(inputs(0)), last)


def hybrid_sharded():
    mesh = init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("r", "s"))
    for optimizer_class in (DoG, LDoG):
        model = fully_shard(network(), mesh=mesh)
        optimizer = optimizer_class(model.parameters(), **options())
        train(model, optimizer)
        assert_like_one_process(model, optimizer, optimizer_class)


def tensor_parallel_with_whole_tensors_beside():
    torch.manual_seed(0)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))

    def build():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(7, 8), nn.ReLU(), nn.Linear(8, 3), nn.LayerNorm(3))

    for optimizer_class in (DoG, LDoG):
        alone, model = build(), build()
        parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
        runs = []
        for network in (alone, model):
            optimizer = optimizer_class(network.parameters(), **options())
            train(network, optimizer)
            runs.append(optimizer)
        for ours, theirs in zip(model.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(whole(ours.detach()), theirs.detach(), rtol=1e-4, atol=1e-5)
        assert_same_bits_everywhere(runs[1])


def plain_shards():
    """Flat parts of the parameters, as FSDP1 and ZeRO hold them; some processes have nothing."""
    rank, size = dist.get_rank(), dist.get_world_size()
    for optimizer_class in (DoG, LDoG):
        model = network()
        parts = [nn.Parameter(_part(p.detach(), rank, size).clone()) for p in model.parameters()]
        optimizer = optimizer_class(parts, process_group=dist.group.WORLD, **options())
        alone = network()
        reference = optimizer_class(alone.parameters(), **options())
        for t in range(STEPS):
            train(alone, reference, range(t, t + 1))
            for part, p in zip(parts, alone.parameters(), strict=True):
                part.grad = _part(p.grad, rank, size).clone() if part.numel() else None
            optimizer.step()
        for part, p in zip(parts, alone.parameters(), strict=True):
            torch.testing.assert_close(part.detach(), _part(p.detach(), rank, size))
        assert_same_bits_everywhere(optimizer)


def _part(tensor, rank, size):
    flat = tensor.reshape(-1)
    each = -(-flat.numel() // size) + 1  # uneven on purpose
    return flat[rank * each : (rank + 1) * each]


def data_parallel():
    """Whole parameters on every process: nothing to sum, and every process does the same."""
    model = DistributedDataParallel(network())
    optimizer = DoG(model.parameters(), **options())
    train(model, optimizer)
    assert_like_one_process(model, optimizer, DoG)


def sixteen_bit_start_of_shards():
    """Shards whose values fit 16 bits are kept in them, by all processes alike."""
    model = network().to(torch.bfloat16).float()
    model = fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    optimizer = DoG(model.parameters())
    train(model, optimizer)
    assert {optimizer.state[p]["x0"].dtype for p in model.parameters()} == {torch.bfloat16}


def meshes_that_differ_need_a_group():
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("a", "b"))
    parts = [
        nn.Parameter(DTensor.from_local(torch.ones(2), mesh[name], run_check=False))
        for name in ("a", "b")
    ]
    ranks = {tuple(p.device_mesh.mesh.flatten().tolist()) for p in parts}
    assert len(ranks) == 2
    for p in parts:
        p.grad = torch.ones_like(p)
    try:
        DoG(parts).step()
    except ValueError as error:
        assert "process_group" in str(error)
    else:
        raise AssertionError("no error")


def save(folder):
    """Leave a checkpoint of an FSDP2 run after half of the steps."""
    for name, optimizer_class in (("dog", DoG), ("ldog", LDoG)):
        model = fully_shard(network(), mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
        optimizer = optimizer_class(model.parameters(), **options())
        train(model, optimizer, range(STEPS // 2))
        for flatten in (False, True):
            content = _content(model, optimizer, flatten)
            dist.checkpoint.save(content, checkpoint_id=f"{folder}/{name}-{flatten}")


def resume(folder):
    """Go on from what another number of processes has saved."""
    for name, optimizer_class in (("dog", DoG), ("ldog", LDoG)):
        for flatten in (False, True):
            model = network()
            with torch.no_grad():
                for p in model.parameters():
                    p.zero_()  # so that only what is loaded can be right
            model = fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
            optimizer = optimizer_class(model.parameters(), **options())
            content = _content(model, optimizer, flatten)
            dist.checkpoint.load(content, checkpoint_id=f"{folder}/{name}-{flatten}")
            chosen = dcp_state.StateDictOptions(flatten_optimizer_state_dict=flatten)
            dcp_state.set_state_dict(
                model,
                optimizer,
                model_state_dict=content["model"],
                optim_state_dict=content["optimizer"],
                options=chosen,
            )
            train(model, optimizer, range(STEPS // 2, STEPS))
            assert_like_one_process(model, optimizer, optimizer_class)


def _content(model, optimizer, flatten):
    chosen = dcp_state.StateDictOptions(flatten_optimizer_state_dict=flatten)
    weights, state = dcp_state.get_state_dict(model, optimizer, options=chosen)
    return {"model": weights, "optimizer": state}


def main(rank, size, scenarios, folder):
    """Run scenarios by name, and leave a file for each that went well or badly."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous-{size}-{len(scenarios)}",
        rank=rank,
        world_size=size,
    )
    for name in scenarios:
        scenario, _, argument = name.partition(":")
        try:
            globals()[scenario](*([argument] if argument else []))
        except BaseException:
            Path(f"{folder}/{scenario}-{size}.failed").write_text(traceback.format_exc())
            sys.exit(1)
        if rank == 0:
            Path(f"{folder}/{scenario}-{size}.passed").touch()
    dist.barrier()
    dist.destroy_process_group()
