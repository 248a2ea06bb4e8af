"""The transformers Trainer with DoG and its averages: `python examples/huggingface_trainer.py`."""

import tempfile
from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
    get_constant_schedule,
    set_seed,
)

from dog import DoG, PolynomialDecay


class AveragedTrainer(Trainer):
    """A Trainer that evaluates and saves the averaged weights that DoG keeps.

    A subclass and no TrainerCallback, since there is no event before an evaluation or a save.
    A checkpoint holds the averages, for `from_pretrained` and `load_best_model_at_end`, and in the
    folder `in_training` the weights that training goes on from. After `train()` the model has the
    averages. For one process and DistributedDataParallel; FSDP and DeepSpeed save in other ways.
    """

    in_training = "in_training"

    @property
    def dog(self) -> DoG:
        return getattr(self.optimizer, "optimizer", self.optimizer)  # without Accelerate's wrapper

    def train(self, *args, **kwargs):
        result = super().train(*args, **kwargs)
        if not (self.args.load_best_model_at_end and self.state.best_model_checkpoint):
            with self.dog.averaged():
                averages = [p.detach().clone() for p in self.model.parameters()]
            with torch.no_grad():
                for p, average in zip(self.model.parameters(), averages, strict=True):
                    p.copy_(average)
        return result

    def evaluate(self, *args, **kwargs):
        if not self.is_in_train:  # the model has the averages, or is as it came
            return super().evaluate(*args, **kwargs)
        with self.dog.averaged():
            return super().evaluate(*args, **kwargs)

    def save_model(self, output_dir=None, _internal_call=False):
        if not self.is_in_train:
            return super().save_model(output_dir, _internal_call)
        if _internal_call:  # this is a checkpoint, to resume from
            super().save_model(str(Path(output_dir, self.in_training)), True)
        with self.dog.averaged():
            return super().save_model(output_dir, _internal_call)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(str(Path(resume_from_checkpoint, self.in_training)), model)

    def log(self, logs, *args, **kwargs):
        if "learning_rate" in logs:  # which is always 1: what DoG found says more
            logs["eta"] = self.dog.telemetry()[0]["eta"]
        super().log(logs, *args, **kwargs)


def sentences(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    """Return made-up sentences of 16 words; some words are of one of 4 topics, the label."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=generator)
    words = torch.randint(100, (count, 16), generator=generator)
    topical = labels[:, None] * 25 + words % 25
    words = torch.where(torch.rand(words.shape, generator=generator) < 0.5, topical, words)
    return [{"input_ids": w, "labels": y} for w, y in zip(words, labels, strict=True)]


def accuracy(prediction) -> dict[str, float]:
    """Return the share of sentences whose topic is right."""
    right = prediction.predictions.argmax(axis=-1) == prediction.label_ids
    return {"accuracy": float(right.mean())}


def build(steps: int, folder: str, **arguments) -> AveragedTrainer:
    """Return a trainer of a small BERT; `arguments` are more TrainingArguments."""
    set_seed(0)
    # From scratch, so that nothing is downloaded; in your work, from_pretrained.
    config = BertConfig(
        vocab_size=100, max_position_embeddings=16, num_labels=4, hidden_size=32,
        num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, initializer_range=0.2,
        hidden_dropout_prob=0.0,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    # reps_rel 1e-6, the default, is for pretrained language models.
    optimizer = DoG(model.parameters(), reps_rel=1e-4, averaging=PolynomialDecay(gamma=8))
    settings = {
        "output_dir": folder, "max_steps": steps, "per_device_train_batch_size": 32,
        "eval_strategy": "steps", "eval_steps": max(1, steps // 2), "logging_steps": 50,
        "save_strategy": "steps", "save_steps": max(1, steps // 2),
        "report_to": "none", "disable_tqdm": True, "dataloader_pin_memory": False,
        # The default, 1, would shorten the gradients, whose length DoG goes by.
        "max_grad_norm": 0,
    }  # fmt: skip
    return AveragedTrainer(
        model=model,
        args=TrainingArguments(**settings | arguments),
        train_dataset=sentences(2000, seed=0),
        eval_dataset=sentences(500, seed=1),
        compute_metrics=accuracy,
        # A constant schedule: the Trainer's own decays to 0, and DoG's factor should stay 1.
        optimizers=(optimizer, get_constant_schedule(optimizer)),
    )


def main(steps: int = 600) -> dict:
    """Train; return the trainer and the accuracies."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = build(steps, folder)
        trainer.train()
        averaged = trainer.evaluate()["eval_accuracy"]
        last_weights = Path(folder, f"checkpoint-{steps}", AveragedTrainer.in_training)
        trainer.model.load_state_dict(
            BertForSequenceClassification.from_pretrained(last_weights).state_dict()
        )
        last = trainer.evaluate()["eval_accuracy"]
    print(f"accuracy: last weights {last:.4f}, averaged weights {averaged:.4f}")
    print("telemetry:", trainer.dog.telemetry())
    return {"trainer": trainer, "last": last, "averaged": averaged}


if __name__ == "__main__":
    main()
