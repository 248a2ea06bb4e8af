"""Writes small copies of the hub's repositories, in its own format.

They are parquet files with the hub's columns and features, and tiny networks of the real classes,
saved as the hub's are.
"""

from pathlib import Path

WORDS = ["the", "cat", "dog", "sat", "ran", "here", "there", "who", "not"]
TEXTS = {
    "cola": ["sentence"],
    "sst2": ["sentence"],
    "mrpc": ["sentence1", "sentence2"],
    "qqp": ["question1", "question2"],
    "stsb": ["sentence1", "sentence2"],
    "mnli": ["premise", "hypothesis"],
    "qnli": ["question", "sentence"],
    "rte": ["sentence1", "sentence2"],
}
CLASSES = {
    "cola": ["unacceptable", "acceptable"],
    "sst2": ["negative", "positive"],
    "mrpc": ["not_equivalent", "equivalent"],
    "qqp": ["not_duplicate", "duplicate"],
    "mnli": ["entailment", "neutral", "contradiction"],
    "qnli": ["entailment", "not_entailment"],
    "rte": ["entailment", "not_entailment"],
}
SIZES = {"train": 12, "validation": 9}


def sentence(index: int, length: int = 4) -> str:
    return " ".join(WORDS[(index * 5 + i * 4) % len(WORDS)] for i in range(length))


def write_glue(folder: Path, task: str, shift: int = 0) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    names = CLASSES.get(task)
    features = {column: Value("string") for column in TEXTS[task]}
    features |= {"label": ClassLabel(names=names) if names else Value("float32")}
    features |= {"idx": Value("int32")}
    for split, count in SIZES.items():
        rows = {
            column: [sentence(i + j + shift) for i in range(count)]
            for j, column in enumerate(TEXTS[task])
        }
        rows["label"] = [i % len(names) if names else i % 6 / 1.1 for i in range(count)]
        rows["idx"] = list(range(count))
        name = f"{split}_matched" if task == "mnli" and split == "validation" else split
        path = folder / task / f"{name}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_dict(rows, Features(features)).to_parquet(path)


def write_squad(folder: Path) -> None:
    from datasets import Dataset, Features, Sequence, Value

    answers = Sequence({"text": Value("string"), "answer_start": Value("int32")})
    texts = dict.fromkeys(("id", "title", "context", "question"), Value("string"))
    for split, count in SIZES.items():
        contexts = [sentence(i, 30) for i in range(count)]
        starts = [context.index("cat") for context in contexts]
        several = 1 if split == "train" else 3
        rows = {
            "id": [str(i) for i in range(count)],
            "title": ["Animals"] * count,
            "context": contexts,
            "question": [f"who {sentence(i)} ?" for i in range(count)],
            "answers": [{"text": ["cat"] * several, "answer_start": [s] * several} for s in starts],
        }
        path = folder / "plain_text" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_dict(rows, Features({**texts, "answers": answers})).to_parquet(path)


def write_roberta(folder: Path) -> None:
    from tokenizers import pre_tokenizers
    from transformers import RobertaConfig, RobertaForMaskedLM, RobertaTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<s>", "<pad>", "</s>", "<unk>", *letters, "th", "the", "Ġt", "<mask>"]
    RobertaTokenizer(
        vocab={word: i for i, word in enumerate(words)},
        merges=[("t", "h"), ("th", "e"), ("Ġ", "t")],
    ).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    sizes |= {"num_hidden_layers": 1, "max_position_embeddings": 514, "type_vocab_size": 1}
    tokens = {"vocab_size": len(words), "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    RobertaForMaskedLM(RobertaConfig(**sizes, **tokens)).save_pretrained(folder)


def write_t5(folder: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -1.0) for word in WORDS]
    pieces += [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz_0123456789.:?"]
    T5Tokenizer(vocab=pieces, extra_ids=0).save_pretrained(folder)
    sizes = {"d_model": 16, "d_ff": 16, "d_kv": 8, "num_heads": 2, "num_layers": 1}
    network = T5ForConditionalGeneration(
        T5Config(vocab_size=len(pieces), decoder_start_token_id=0, **sizes)
    )
    network.save_pretrained(folder)
