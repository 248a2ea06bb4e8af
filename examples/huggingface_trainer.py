"""The transformers Trainer with DoG and its averages: `python examples/huggingface_trainer.py`."""

import tempfile

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from dog import DoG, PolynomialDecay


def sentences(count: int) -> list[dict[str, torch.Tensor]]:
    """Return made-up sentences of 16 words, most of them of the topic that is the label."""
    labels = torch.randint(4, (count, 1))
    words = labels * 25 + torch.randint(30, (count, 16)) % 100
    return [{"input_ids": w, "labels": y} for w, y in zip(words % 100, labels, strict=True)]


def build(folder: str, steps: int = 300, **arguments) -> Trainer:
    """Return a trainer of a small BERT; `arguments` are more of TrainingArguments'."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 64, "vocab_size": 100, "initializer_range": 0.2}
    settings = {"max_steps": steps, "eval_strategy": "steps", "eval_steps": max(1, steps // 2)}
    settings |= {"save_steps": max(1, steps // 2), "per_device_train_batch_size": 32}
    # A constant schedule, and no clipping: the length of the gradients is what DoG goes by.
    settings |= {"lr_scheduler_type": "constant", "max_grad_norm": 0}
    options = {"averaging": PolynomialDecay(gamma=8), "reps_rel": 1e-4}
    options |= {"scope": "global"}  # the Trainer makes two param groups, of one step size
    return Trainer(
        model=BertForSequenceClassification(BertConfig(num_labels=4, **sizes)),
        args=TrainingArguments(folder, **settings | arguments),
        train_dataset=sentences(2000),
        eval_dataset=sentences(200),
        optimizer_cls_and_kwargs=(DoG, options),
    )


if __name__ == "__main__":
    trainer = build(tempfile.mkdtemp())
    trainer.train()  # it evaluates the averages; a checkpoint after it has them, and resumes
    print(trainer.evaluate(), trainer.optimizer.optimizer.telemetry())
