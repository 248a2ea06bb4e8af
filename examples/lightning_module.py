"""DoG in Lightning, validating and saving averages: `python examples/lightning_module.py`."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytorch_lightning as lightning  # or, with the package lightning: import lightning
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dog import DoG, PolynomialDecay


class AveragedWeights(lightning.Callback):
    """During fit, validate and save the averaged weights that DoG keeps, and log its step size.

    A checkpoint has the averages in `state_dict`, where `load_from_checkpoint` looks, and beside
    it the weights that training goes on from. After `fit` the model has the averages.
    """

    def __init__(self) -> None:
        self.within = ExitStack()

    def on_validation_start(self, trainer, module):
        if trainer.state.fn == "fit":
            self.within.enter_context(trainer.optimizers[0].averaged())

    def on_validation_end(self, trainer, module):
        self.within.close()  # before ModelCheckpoint, which Lightning puts last, saves

    def on_exception(self, trainer, module, exception):
        self.within.close()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step % trainer.log_every_n_steps == 0:  # reading waits for a GPU
            module.log("eta", trainer.optimizers[0].telemetry()[0]["eta"])

    def on_save_checkpoint(self, trainer, module, checkpoint):
        if trainer.state.fn == "fit":
            checkpoint["in_training"] = checkpoint["state_dict"]
            checkpoint["state_dict"] = self.averages(trainer, module)

    def on_load_checkpoint(self, trainer, module, checkpoint):
        if trainer.state.fn == "fit":  # to go on; otherwise the averages are what is wanted
            module.load_state_dict(checkpoint["in_training"])

    def on_fit_end(self, trainer, module):
        module.load_state_dict(self.averages(trainer, module))

    @staticmethod
    def averages(trainer, module) -> dict[str, torch.Tensor]:
        with trainer.optimizers[0].averaged():
            return {name: value.clone() for name, value in module.state_dict().items()}


class Digits(lightning.LightningModule):
    """A small network for scikit-learn's images of digits."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def configure_optimizers(self):
        # The optimizer alone: there is no learning rate that a schedule could change.
        return DoG(self.parameters(), reps_rel=1e-4, averaging=PolynomialDecay(gamma=8))

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = nn.functional.cross_entropy(self.network(images), labels)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        right = (self.network(images).argmax(dim=1) == labels).float()
        self.log("accuracy", right.mean(), batch_size=len(labels))


def loaders() -> tuple[DataLoader, DataLoader]:
    """Return 1,400 images to train on and 397 to validate on."""
    images, labels = load_digits(return_X_y=True)
    images, labels = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
    train = TensorDataset(images[:1400], labels[:1400])
    test = TensorDataset(images[1400:], labels[1400:])
    return DataLoader(train, batch_size=64, shuffle=True), DataLoader(test, batch_size=256)


def build(epochs: int, folder: str, **options) -> tuple[lightning.Trainer, Digits]:
    """Return a trainer, `options` being more of its arguments, and what it is to train."""
    lightning.seed_everything(0, verbose=False)
    keep = ModelCheckpoint(folder, monitor="accuracy", mode="max", save_last=True)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings = {"max_epochs": epochs, "log_every_n_steps": 10, **quiet, **options}
    callbacks = [AveragedWeights(), keep, *settings.pop("callbacks", [])]
    return lightning.Trainer(callbacks=callbacks, **settings), Digits()


def main(epochs: int = 20) -> dict:
    """Train; return the trainer, the module and the accuracies."""
    train, test = loaders()
    with tempfile.TemporaryDirectory() as folder:
        trainer, module = build(epochs, folder)
        trainer.fit(module, train, test)
        eta = trainer.callback_metrics["eta"].item()
        (averaged,) = trainer.validate(module, test, verbose=False)
        saved = torch.load(Path(folder, "last.ckpt"), weights_only=True)
        module.load_state_dict(saved["in_training"])
        (last,) = trainer.validate(module, test, verbose=False)
    last, averaged = last["accuracy"], averaged["accuracy"]
    print(
        f"accuracy: last weights {last:.4f}, averaged weights {averaged:.4f}; logged eta {eta:.4g}"
    )
    print("telemetry:", trainer.optimizers[0].telemetry())
    return {"trainer": trainer, "last": last, "averaged": averaged, "eta": eta}


if __name__ == "__main__":
    main()
