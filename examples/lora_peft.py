"""DoG on the adapters of a frozen model, with peft: `python examples/lora_peft.py`."""

import tempfile

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import BertConfig, BertForSequenceClassification

from dog import DoG, PolynomialDecay


def base_model() -> BertForSequenceClassification:
    """Return what stands for a pretrained model here, so that nothing is downloaded."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 64, "vocab_size": 100, "initializer_range": 0.2}
    return BertForSequenceClassification(BertConfig(num_labels=4, hidden_dropout_prob=0, **sizes))


def main(steps: int = 300, folder: str | None = None) -> tuple[PeftModel, DoG, list[float]]:
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules="all-linear")
    model = get_peft_model(base_model(), config)
    # Not L-DoG: while one factor is 0, the gradient of the other is 0, and its step size runs away.
    optimizer = DoG(model.parameters(), reps_rel=1e-3, averaging=PolynomialDecay(gamma=8))
    losses = []
    for _ in range(steps):
        labels = torch.randint(4, (32, 1))
        words = (labels * 25 + torch.randint(30, (32, 16))) % 100  # most are of the label's topic
        optimizer.zero_grad()
        loss = model(input_ids=words, labels=labels).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    optimizer.eval()  # the weights are averages now: evaluate and save these
    model.save_pretrained(folder or tempfile.mkdtemp())  # adapters and head alone
    return model, optimizer, losses


if __name__ == "__main__":
    print("loss", *main()[2][::50])
