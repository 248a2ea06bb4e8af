"""DoG in a loop of Accelerate: `python examples/accelerate_loop.py`, or `accelerate launch` it."""

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dog import DoG, PolynomialDecay

IMAGES, LABELS = map(torch.tensor, load_digits(return_X_y=True))  # 1,797 images of digits
DIGITS = TensorDataset(IMAGES.float() / 16, LABELS)


def main(epochs: int = 15, folder: str | None = None) -> tuple[nn.Module, DoG, float]:
    torch.manual_seed(0)
    accelerator = Accelerator(gradient_accumulation_steps=2)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = DoG(model.parameters(), reps_rel=1e-4, averaging=PolynomialDecay(gamma=8))
    train = DataLoader(DIGITS, 32, sampler=range(1400))
    test = DataLoader(DIGITS, 256, sampler=range(1400, 1797))
    model, optimizer, train, test = accelerator.prepare(model, optimizer, train, test)
    for _ in range(epochs):
        for images, labels in train:
            with accelerator.accumulate(model):
                accelerator.backward(nn.functional.cross_entropy(model(images), labels))
                optimizer.step()  # DoG steps when the gradients of 2 batches are summed
                optimizer.zero_grad()
    optimizer.eval()  # the weights are averages now; train() before the next step
    right = [accelerator.gather_for_metrics(model(x).argmax(dim=1) == y) for x, y in test]
    if folder:
        accelerator.save_model(model, folder)
    return model, optimizer.optimizer, torch.cat(right).float().mean().item()


if __name__ == "__main__":
    _, dog, accuracy = main()
    print(f"accuracy {accuracy:.4f}", dog.telemetry(), *dog.diagnose(), sep="\n")
