"""What only a GPU shows, by tensors that have a device and no content (torch's fake tensors)."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from dog import DoG, PolynomialDecay, layout, storage
from dog.equations import SCALARS
from dog.kernels import foreach, fused


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of fake tensors, on which Triton can start."""
    monkeypatch.setattr(fused, "_has_triton", lambda: True)
    # Which looks at values.
    monkeypatch.setattr(storage, "compressed", lambda tensors, _: [t.clone() for t in tensors])
    with FakeTensorMode():
        yield torch.device("cuda")


def test_a_gradient_of_another_type_is_not_read_as_the_parameters(gpu):
    p, x0 = (torch.empty(8, device=gpu, dtype=torch.bfloat16) for _ in range(2))
    rest = torch.empty_like(p)
    for dtype, kernels in ((torch.bfloat16, fused), (torch.float32, foreach)):
        gradient = torch.empty(8, device=gpu, dtype=dtype)
        assert layout._kernels("auto", p, gradient, x0, None, rest) is kernels


def test_a_compensation_that_lies_otherwise_is_not_walked_as_the_parameter(gpu):
    p, rest = torch.empty(2, 3, 4, 4, device=gpu), torch.empty(2, 3, 4, 4, device=gpu)
    p = p.to(memory_format=torch.channels_last)
    assert layout._kernels("auto", p, torch.empty_like(p), p, None, rest) is foreach


@pytest.mark.parametrize("first", ["cuda", "cpu"])
def test_numbers_for_the_host_are_waited_for_where_parameters_are_on_both(gpu, first):
    class Sent(TorchFunctionMode):
        """Notes copies from the GPU to the host that nobody waits for."""

        unwaited = 0

        def __torch_function__(self, func, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            if getattr(func, "__name__", "") == "to" and kwargs.get("non_blocking"):
                target = torch.device(args[1]).type
                self.unwaited += args[0].device.type == "cuda" and target == "cpu"
            return func(*args, **kwargs)

    other = "cpu" if first == "cuda" else "cuda"
    params = [nn.Parameter(torch.empty(4, device=device)) for device in (first, other)]
    optimizer = DoG(params, averaging=PolynomialDecay())
    with Sent() as sent:
        for _ in range(2):
            for p in params:
                p.grad = torch.empty_like(p)
            optimizer.step()
    assert sent.unwaited == 0


def test_statistics_on_a_second_gpu_are_averaged_there(gpu):
    model = nn.Sequential(*(nn.BatchNorm1d(4, device=f"cuda:{i}") for i in range(2)))
    optimizer = DoG(model.parameters(), averaging=PolynomialDecay(model=model, batch_norm="paper"))
    for _ in range(2):
        for p in model.parameters():
            p.grad = torch.empty_like(p)
        optimizer.step()
    averages = optimizer.param_groups[0]["averaged_buffers"]
    assert [average.device.index for average in averages] == [0, 0, 1, 1]


def test_numbers_of_parameters_on_two_gpus_can_be_saved(gpu):
    params = [nn.Parameter(torch.empty(4, device=f"cuda:{i}")) for i in range(2)]
    states = [{"scalars": torch.empty(len(SCALARS), device=p.device)} for p in params]
    assert len(storage.published_numbers(states, "tensor")["eta"]) == 2


@pytest.mark.parametrize("name", ["x0", "average", "compensation"])
def test_state_on_another_device_than_its_parameter_is_refused(name):
    p = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = DoG([p], reps_rel=1e-2, averaging=PolynomialDecay())
    p.grad = torch.ones_like(p)
    optimizer.step()
    optimizer.state[p][name] = optimizer.state[p][name].to("meta")
    with pytest.raises(RuntimeError, match=r"a parameter is on cpu and its .* on meta: move the"):
        optimizer.step()


def test_where_triton_cannot_start_dog_trains_without_it(gpu, monkeypatch):
    def fail():
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.undo()
    monkeypatch.setattr(fused.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(fused, "_start_triton", fail)
    fused._has_triton.cache_clear()
    p = torch.empty(8, device=gpu)
    with pytest.warns(UserWarning, match="Triton cannot start .* needs a C compiler"):
        assert layout._kernels("auto", p, p, p, None, None) is foreach
    assert fused.engine(gpu) == "torch"
    fused._has_triton.cache_clear()
