"""DoG in a plain PyTorch loop that can be resumed: `python examples/plain_loop.py [checkpoint]`."""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

from dog import DoG, PolynomialDecay

IMAGES, LABELS = map(torch.tensor, load_digits(return_X_y=True))  # 1,797 images of digits


def main(steps: int = 600, checkpoint: Path | None = None) -> tuple[nn.Module, DoG, float]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    # No learning rate. reps_rel sets the length of the first step alone.
    optimizer = DoG(model.parameters(), reps_rel=1e-4, averaging=PolynomialDecay(gamma=8))
    done = 0
    if checkpoint and checkpoint.exists():
        weights, state, done = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(weights)
        optimizer.load_state_dict(state)
    optimizer.train()  # what was saved in eval mode has the training weights, too
    for step in range(done, steps):
        batch = torch.randint(1400, (64,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(IMAGES[batch].float() / 16), LABELS[batch]).backward()
        optimizer.step()
    optimizer.eval()  # the weights are averages now: evaluate and save these
    if checkpoint:
        torch.save((model.state_dict(), optimizer.state_dict(), max(done, steps)), checkpoint)
    right = model(IMAGES[1400:].float() / 16).argmax(dim=1) == LABELS[1400:]
    return model, optimizer, right.float().mean().item()


if __name__ == "__main__":
    _, optimizer, accuracy = main(checkpoint=Path(sys.argv[1]) if sys.argv[1:] else None)
    print(f"accuracy {accuracy:.4f}", optimizer.telemetry(), *optimizer.diagnose(), sep="\n")
