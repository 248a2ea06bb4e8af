"""DoG in a plain PyTorch loop that can be resumed: `python examples/plain_loop.py [checkpoint]`."""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

from dog import DoG, PolynomialDecay


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Return scikit-learn's 1,797 images of digits, [1797, 64] with values 0 to 1, and labels."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)


@torch.no_grad()
def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of images that the model gets right."""
    model.eval()
    right = (model(images).argmax(dim=1) == labels).float().mean().item()
    model.train()
    return right


def main(steps: int = 600, checkpoint: Path | None = None, save_every: int = 200) -> dict:
    """Train, going on from the checkpoint where there is one; return what is printed."""
    torch.manual_seed(0)
    images, labels = digits()
    train, test = TensorDataset(images[:1400], labels[:1400]), (images[1400:], labels[1400:])
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    # No learning rate. reps_rel sets the size of the first step only; from there DoG grows it.
    optimizer = DoG(model.parameters(), reps_rel=1e-4, averaging=PolynomialDecay(gamma=8))
    draws = torch.Generator().manual_seed(1)

    start = 0
    if checkpoint is not None and checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])  # the averages are in it
        draws.set_state(saved["draws"])
        start = saved["step"]

    losses = []
    for step in range(start + 1, steps + 1):
        inputs, targets = train[torch.randint(len(train), (64,), generator=draws)]
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())  # .item() here would wait for a GPU at every step
        if step % 100 == 0:
            (numbers,) = optimizer.telemetry()  # one for each param group
            print(f"step {step}: loss {loss:.4f}, eta {numbers['eta']:.4g}")
            for sentence in optimizer.diagnose():
                print("trouble:", sentence)
        if checkpoint is not None and (step % save_every == 0 or step == steps):
            # Outside averaged(): training goes on from the last weights, not from the averages.
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            partial = checkpoint.with_name(checkpoint.name + ".partial")
            torch.save(state | {"draws": draws.get_state(), "step": step}, partial)
            partial.replace(checkpoint)  # killed at any moment, a whole checkpoint is there

    last = accuracy(model, *test)
    with optimizer.averaged():  # evaluate these: DoG's steps do not shrink towards the end
        averaged = accuracy(model, *test)
    print(f"accuracy: last weights {last:.4f}, averaged weights {averaged:.4f}")
    print("telemetry:", optimizer.telemetry())
    return {
        "model": model, "optimizer": optimizer, "test": test, "losses": losses,
        "last": last, "averaged": averaged,
    }  # fmt: skip


if __name__ == "__main__":
    main(checkpoint=Path(sys.argv[1]) if sys.argv[1:] else None)
