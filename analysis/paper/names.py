"""What the paper calls our networks, tasks, optimizers and metrics, and what its text says."""

# Our names and the paper's.
MODELS = {
    "roberta_base": "RoBERTa-b",
    "t5_base": "T5-b",
    "vgg11": "VGG11",
    "resnet50": "ResNet50",
    "densenet121": "Densenet121",
    "vit_b32": "ViT-B/32",
    "convnext_tiny": "ConvNeXt-T",
    "clip_vit_b32": "CLIP ViT-B/32",
    "wrn28_10": "WRN-28-10",
}
LANGUAGE = {
    "cola": "CoLA",
    "sst2": "SST-2",
    "mrpc": "MRPC",
    "qqp": "QQP",
    "stsb": "STS-B",
    "mnli": "MNLI",
    "qnli": "QNLI",
    "rte": "RTE",
    "squad": "SQuAD",
}
VISION = {
    "caltech101": "Caltech101",
    "cifar100": "CIFAR-100",
    "dtd": "DTD",
    "flowers102": "Flowers102",
    "pets": "Pets",
    "sun397": "Sun397",
    "svhn": "SVHN",
    "resisc45": "Resisc45",
    "retinopathy": "Retinopathy",
    "clevr_dist": "Clevr-Dist",
    "dmlab": "DMLab",
    "dsprites_ori": "dSprites-Ori",
}
TASKS = LANGUAGE | VISION | {"imagenet": "ImageNet", "cifar_scratch": "CIFAR-10 from scratch"}
OPTIMIZERS = {"dog": "DoG", "ldog": "L-DoG", "sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
OPTIMIZERS |= {"sgd_momentum": "SGD mom 0.9"}
METRICS = {"accuracy": "accuracy", "matthews": "Matthews", "f1": "F1", "squad_f1": "F1"}
METRICS |= {"pearson": "Pearson"}
# Tables 1 and 2: model, task, and what the paper says of the budget.
FINAL: dict[int, tuple[str, str, dict[str, int]]] = {
    1: ("CLIP ViT-B/32", "ImageNet", {"steps": 25_000, "batch_size": 512}),
    # 200 epochs of the 50,000 images.
    2: (
        "WRN-28-10",
        "CIFAR-10 from scratch",
        {"steps": 78_125, "batch_size": 128, "train_examples": 50_000},
    ),
}

# What the paper's text says of the training images and of DoG's initial step length.
AUGMENTS = dict.fromkeys(VISION.values(), "natural") | {"SVHN": "natural_unflipped"}
AUGMENTS |= dict.fromkeys(("Resisc45", "Retinopathy"), "crop")
AUGMENTS |= dict.fromkeys(("Clevr-Dist", "DMLab"), "flip") | {"dSprites-Ori": "none"}
AUGMENTS |= {"ImageNet": "timm", "CIFAR-10 from scratch": "padded_crop"}
FIRST_MOVEMENTS = {task: {"DoG": 1e-4, "L-DoG": 1e-4} for task in TASKS.values()}
FIRST_MOVEMENTS |= {task: {"DoG": 1e-6, "L-DoG": 1e-8} for task in LANGUAGE.values()}
FIRST_MOVEMENTS |= {"ImageNet": {"DoG": 1e-6, "L-DoG": 1e-6}}
# What the paper compares with, the other that needs no tuning, and what Tables 4 and 5 tune.
DOG, LDOG, TUNED = "DoG", "L-DoG", ("SGD", "Adam")
