"""DoG by its name in timm's factory of optimizers: `python examples/timm_factory.py`.

Import it in timm's train.py, then: `--opt dog --lr 1 --sched none`. That script evaluates the last
weights: call `optimizer.eval()` before `validate()` and `optimizer.train()` after it.
"""

import torch
from sklearn.datasets import load_digits
from timm.optim import OptimInfo, create_optimizer_v2
from timm.optim._optim_factory import default_registry
from torch import nn

from dog import DoG, LDoG, PolynomialDecay

# With weight decay the factory makes two param groups: scope="global" gives them one step size.
OPTIONS = {"reps_rel": 1e-4, "averaging": PolynomialDecay(gamma=8)}
default_registry.register(OptimInfo("dog", DoG, "DoG", defaults={**OPTIONS, "scope": "global"}))
default_registry.register(OptimInfo("ldog", LDoG, "L-DoG", defaults=OPTIONS))


def main(steps: int = 300, name: str = "dog") -> tuple[nn.Module, DoG, float]:
    torch.manual_seed(0)
    images, labels = map(torch.tensor, load_digits(return_X_y=True))
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = create_optimizer_v2(model, name, weight_decay=1e-4)
    for _ in range(steps):
        batch = torch.randint(1400, (32,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch].float() / 16), labels[batch]).backward()
        optimizer.step()
    optimizer.eval()  # the weights are averages now: evaluate and save these
    right = model(images[1400:].float() / 16).argmax(dim=1) == labels[1400:]
    return model, optimizer, right.float().mean().item()


if __name__ == "__main__":
    print(f"accuracy {main()[2]:.4f}")
