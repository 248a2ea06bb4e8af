"""DoG in a loop of Accelerate: `python examples/accelerate_loop.py`, or `accelerate launch` it."""

import tempfile

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dog import DoG, PolynomialDecay


def digits() -> tuple[TensorDataset, TensorDataset]:
    """Return scikit-learn's images of digits, 1,400 to train on and 397 to test on."""
    images, labels = load_digits(return_X_y=True)
    images, labels = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
    return TensorDataset(images[:1400], labels[:1400]), TensorDataset(images[1400:], labels[1400:])


@torch.no_grad()
def accuracy(accelerator: Accelerator, model: nn.Module, loader: DataLoader) -> float:
    """Return the share of images that the model gets right, over all processes."""
    model.eval()
    right = [
        accelerator.gather_for_metrics(model(images).argmax(dim=1) == labels)
        for images, labels in loader
    ]
    model.train()
    return torch.cat(right).float().mean().item()


def main(epochs: int = 15, folder: str | None = None) -> dict:
    """Train, save the averaged weights to the folder, if given one; return what is printed."""
    set_seed(0)
    accelerator = Accelerator(gradient_accumulation_steps=2)
    train, test = digits()
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    # No schedule, and no clipping beside it: max_grad_norm= does that without another pass.
    optimizer = DoG(model.parameters(), reps_rel=1e-4, averaging=PolynomialDecay(gamma=8))
    model, optimizer, train_loader, test_loader = accelerator.prepare(
        model,
        optimizer,
        DataLoader(train, batch_size=32, shuffle=True),
        DataLoader(test, batch_size=256),
    )
    # Accelerate's wrapper knows step() and zero_grad() only; the rest is asked of DoG itself.
    dog = optimizer.optimizer

    losses = []
    for epoch in range(1, epochs + 1):
        for images, labels in train_loader:
            with accelerator.accumulate(model):
                loss = nn.functional.cross_entropy(model(images), labels)
                accelerator.backward(loss)
                optimizer.step()  # DoG takes its step when the gradients of 2 batches are summed
                optimizer.zero_grad()
            losses.append(loss.detach())
        if epoch % 5 == 0:
            eta = dog.telemetry()[0]["eta"]
            accelerator.print(f"epoch {epoch}: loss {loss:.4f}, eta {eta:.4g}")
            for sentence in dog.diagnose():
                accelerator.print("trouble:", sentence)

    last = accuracy(accelerator, model, test_loader)
    with dog.averaged():
        averaged = accuracy(accelerator, model, test_loader)
        if folder is not None:
            accelerator.save_model(model, folder)
    accelerator.print(f"accuracy: last weights {last:.4f}, averaged weights {averaged:.4f}")
    accelerator.print("telemetry:", dog.telemetry())
    return {"model": model, "optimizer": dog, "losses": losses, "last": last, "averaged": averaged}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(folder=folder)
