"""DoG in Lightning, validating and saving averages: `python examples/lightning_module.py`."""

import pytorch_lightning as lightning  # or, with the package lightning: import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dog import DoG, PolynomialDecay

IMAGES, LABELS = map(torch.tensor, load_digits(return_X_y=True))  # 1,797 images of digits
DIGITS = TensorDataset(IMAGES.float() / 16, LABELS)
TRAIN = DataLoader(DIGITS, 64, sampler=range(1400))
TEST = DataLoader(DIGITS, 256, sampler=range(1400, 1797))


class Digits(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def configure_optimizers(self):
        return DoG(self.parameters(), reps_rel=1e-4, averaging=PolynomialDecay(gamma=8))

    def on_train_batch_start(self, batch, batch_idx):
        self.trainer.optimizers[0].train()

    def on_validation_start(self):  # a checkpoint after it has the averages, and resumes
        for optimizer in self.trainer.optimizers:  # trainer.validate() alone may have none
            optimizer.eval()

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        right = self.network(batch[0]).argmax(dim=1) == batch[1]
        self.log("accuracy", right.float().mean(), prog_bar=True)


if __name__ == "__main__":
    lightning.Trainer(max_epochs=20).fit(Digits(), TRAIN, TEST)
