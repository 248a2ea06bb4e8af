"""L-DoG on the adapters of a frozen model, with peft: `python examples/lora_peft.py`."""

import tempfile
from statistics import median

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, set_seed

from dog import LDoG, PolynomialDecay


def sentences(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return made-up sentences of 16 words; some words are of one of 4 topics, the label."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=generator)
    words = torch.randint(100, (count, 16), generator=generator)
    topical = labels[:, None] * 25 + words % 25
    return torch.where(torch.rand(words.shape, generator=generator) < 0.5, topical, words), labels


def base_model() -> nn.Module:
    """Return what stands for a pretrained model here, so that nothing is downloaded."""
    set_seed(0)
    config = BertConfig(
        vocab_size=100, max_position_embeddings=16, num_labels=4, hidden_size=64,
        num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, initializer_range=0.2,
        hidden_dropout_prob=0.0,
    )  # fmt: skip
    return BertForSequenceClassification(config)


@torch.no_grad()
def accuracy(model: nn.Module, words: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of sentences whose topic is right."""
    model.eval()
    right = (model(input_ids=words).logits.argmax(dim=1) == labels).float().mean().item()
    model.train()
    return right


def numbers_kept(optimizer: torch.optim.Optimizer) -> int:
    """Return how many numbers the optimizer's state takes in memory."""
    tensors = [value for state in optimizer.state.values() for value in state.values()]
    # The numbers of a row of tensors share memory, and a constant start is one number, expanded.
    sizes = {
        value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() // value.element_size()
        for value in tensors
    }
    return sum(sizes.values())


def main(steps: int = 600) -> dict:
    """Train adapters and head, save their averages and load them again; return what is printed."""
    base = base_model()
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules="all-linear")
    model = get_peft_model(base, config)
    words, labels = sentences(2000, seed=0)
    test = sentences(500, seed=1)

    # A step size for every tensor: the two factors of an adapter differ in scale, one starts at 0.
    # Parameters that are frozen get no state and do not count in any norm.
    optimizer = LDoG(model.parameters(), reps_rel=1e-4, averaging=PolynomialDecay(gamma=8))
    losses = []
    for step in range(1, steps + 1):
        batch = torch.randint(len(words), (32,))
        optimizer.zero_grad()
        loss = model(input_ids=words[batch], labels=labels[batch]).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if step % 100 == 0:
            eta = median(row["eta"] for row in optimizer.telemetry())  # one row for each tensor
            print(f"step {step}: loss {loss:.4f}, median eta {eta:.4g}")
            for sentence in optimizer.diagnose():
                print("trouble:", sentence)

    last = accuracy(model, *test)
    with tempfile.TemporaryDirectory() as folder:
        with optimizer.averaged():
            averaged = accuracy(model, *test)
            model.save_pretrained(folder)  # adapters and head alone
        loaded = PeftModel.from_pretrained(base_model(), folder)
    reloaded = accuracy(loaded, *test)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    kept = numbers_kept(optimizer)
    print(f"accuracy: last weights {last:.4f}, averaged {averaged:.4f}, reloaded {reloaded:.4f}")
    print("telemetry of one tensor:", optimizer.telemetry()[0])
    print(f"{trained:,} of {total:,} weights are trained; the optimizer keeps {kept:,} numbers")
    return {
        "model": model, "optimizer": optimizer, "loaded": loaded, "losses": losses,
        "last": last, "averaged": averaged, "reloaded": reloaded, "trained": trained, "kept": kept,
    }  # fmt: skip


if __name__ == "__main__":
    main()
