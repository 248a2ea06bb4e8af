"""DoG by its name in pytorch_optimizer: `python examples/pytorch_optimizer_factory.py`.

That package takes no dotted path: its factory looks names up in a dict of classes.
"""

import torch
from pytorch_optimizer import create_optimizer
from pytorch_optimizer.optimizer import OPTIMIZERS

from dog import DoG, LDoG, PolynomialDecay

OPTIMIZERS |= {"dog": DoG, "ldog": LDoG}


def main(steps: int = 200) -> tuple[torch.nn.Module, DoG, list[float]]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    # lr=1, since the factory would pass 0.001; with weight decay it makes two param groups.
    options = {"lr": 1.0, "scope": "global", "weight_decay": 1e-3, "reps_rel": 1e-4}
    optimizer = create_optimizer(model, "dog", averaging=PolynomialDecay(gamma=8), **options)
    losses = []
    for _ in range(steps):
        inputs = torch.randn(32, 6)
        optimizer.zero_grad()
        loss = (model(inputs) - inputs.sum(dim=1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    optimizer.eval()  # the weights are averages now: evaluate and save these
    return model, optimizer, losses


if __name__ == "__main__":
    print("loss", *main()[2][::25])
