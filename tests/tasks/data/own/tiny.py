"""Tiny networks without files, for runs on real texts."""

from tasks.models import transformers_network, transformers_tokenizer

CHANGES = {
    "model.target": "tiny.network",
    "model.tokenizer": "tiny.tokenizer",
    "model.weights": None,
}
RUN = ["opt=dog", "train.steps=3", "train.batch_size=4", "train.eval_every=3", "device=cpu"]
RUN += ["train.max_tokens=12", "wandb.mode=disabled", "progress=false"]


def network(model, outputs, data_dir, synthetic, *more):
    """A synthetic network, whatever the task."""
    return transformers_network(model, outputs, data_dir, True, *more)


def tokenizer(model, data_dir, synthetic):
    """The tokenizer of synthetic networks."""
    return transformers_tokenizer(model, data_dir, True)
