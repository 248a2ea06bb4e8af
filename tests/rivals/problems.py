"""A small problem for optimizers: logistic regression with parameters of every kind."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

LATE = 3  # the step at which the parameter `late` has its first gradient


class Problem(nn.Module):
    """Ten classes' worth of noise; `unused` never has a gradient, `late` has one from step 3 on."""

    def __init__(self, unused=True):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(64, 8, generator=generator)
        self.targets = torch.randint(3, (64,), generator=generator)
        self.hidden = nn.Parameter(torch.randn(8, 5, generator=generator) / 3)
        self.unused = nn.Parameter(torch.ones(2)) if unused else None
        self.late = nn.Parameter(torch.randn(5, generator=generator) / 3)
        self.head = nn.Parameter(torch.randn(5, 3, generator=generator) / 3)

    def backward(self, step):
        """Compute the gradients of a step's batch; return the loss, detached."""
        batch = slice(8 * (step % 8), 8 * (step % 8) + 8)
        hidden = (self.inputs[batch] @ self.hidden).tanh()
        if step >= LATE:
            hidden = hidden * (1 + self.late)
        self.zero_grad()
        loss = cross_entropy(hidden @ self.head, self.targets[batch])
        loss.backward()
        return loss.detach()

    def weights(self):
        """Return copies of all parameters but `unused`."""
        return [p.detach().clone() for name, p in self.named_parameters() if name != "unused"]


def train(problem, optimizer, steps, takes_loss=False):
    """Take steps, and return the losses before them."""
    losses = []
    for step in steps:
        losses.append(problem.backward(step))
        optimizer.step(**({"loss": losses[-1]} if takes_loss else {}))
    return losses


def built(kind, problem, groups=1, **arguments):
    """Return an optimizer of a problem's parameters, in one group or two."""
    parameters = list(problem.parameters())
    if groups == 2:
        parameters = [{"params": parameters[:2]}, {"params": parameters[2:]}]
    optimizer = kind(parameters, **arguments)
    if hasattr(optimizer, "train"):
        optimizer.train()
    return optimizer
