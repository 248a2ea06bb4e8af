"""Each example trains, uses averages where it says so, and can be gone on with.

Each is about 40 lines long, so that it can be read at a glance.
"""

import ast
import importlib.util
from pathlib import Path

import pytest
import torch

from dog import DoG, PolynomialDecay

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name, *packages):
    """Import an example, or skip the test where what it is about is not installed."""
    for package in packages:
        pytest.importorskip(package, reason=f"needs {package}: run make setup")
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def same(ours, theirs):
    """Say whether the tensors are the same, bit for bit."""
    pairs = zip(ours, theirs, strict=True)
    return all(torch.equal(a.cpu(), b.cpu()) for a, b in pairs)


def named(model):
    """Return copies of all parameters by name."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def all_the_same(ours, theirs):
    """Say whether the tensors of these names are the same, bit for bit."""
    return ours.keys() == theirs.keys() and same(ours.values(), [theirs[name] for name in ours])


def saved_in(folder):
    """Return the weights that transformers or Accelerate has saved."""
    from safetensors.torch import load_file

    return load_file(Path(folder, "model.safetensors"))


def trained(model):
    """Return the parameters that are trained, in their order."""
    return [p for p in model.parameters() if p.requires_grad]


def has_averages(model, optimizer):
    """Say whether the model's weights are the averages that the optimizer keeps."""
    return all(torch.equal(p, optimizer.state[p]["average"]) for p in trained(model))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_example_is_short_and_its_first_line_has_the_command(path):
    text = path.read_text()
    docstring = ast.get_docstring(ast.parse(text))
    assert f"`python examples/{path.name}" in docstring.splitlines()[0]
    assert len(text.splitlines()) <= 41


# A plain loop -------------------------------------------------------------------------------------


def test_plain_loop_learns_and_ends_with_the_averages():
    model, optimizer, accuracy = example("plain_loop", "sklearn").main(steps=100)
    assert accuracy > 0.7 and has_averages(model, optimizer)
    before = named(model)
    optimizer.train()
    assert not all_the_same(named(model), before)


def test_plain_loop_goes_on_from_its_checkpoint_as_if_never_stopped(tmp_path):
    plain, checkpoint = example("plain_loop", "sklearn"), tmp_path / "saved.pt"
    whole, whole_optimizer, accuracy = plain.main(steps=40)
    plain.main(steps=25, checkpoint=checkpoint)
    resumed = plain.main(steps=40, checkpoint=checkpoint)
    again = plain.main(steps=40, checkpoint=checkpoint)  # there is nothing left to train
    for model, optimizer, its_accuracy in (resumed, again):
        assert all_the_same(named(model), named(whole)) and its_accuracy == accuracy
        assert optimizer.telemetry() == whole_optimizer.telemetry()
        optimizer.train()
    whole_optimizer.train()
    assert all_the_same(named(resumed[0]), named(whole))


# The transformers Trainer -------------------------------------------------------------------------


@pytest.fixture
def huggingface():
    return example("huggingface_trainer", "transformers", "accelerate")


def watched(trainer):
    """Note the weights at the end of steps, at evaluations and at the next steps' gradients."""
    from transformers import TrainerCallback

    seen = {"end": {}, "evaluated": {}, "went_on": {}}

    class Watcher(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            seen["end"][state.global_step] = named(model)

        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            seen["went_on"][state.global_step] = named(model)

        def on_evaluate(self, args, state, control, model=None, **kwargs):
            seen["evaluated"][state.global_step] = named(model)

    trainer.add_callback(Watcher())
    return seen


def test_trainer_evaluates_and_saves_averages_and_trains_on_from_the_weights(huggingface, tmp_path):
    trainer = huggingface.build(str(tmp_path), 20)
    seen = watched(trainer)
    trainer.train()
    dog = trainer.optimizer.optimizer
    assert len(dog.param_groups) == 2 and len(dog.telemetry()) == 1
    assert not all_the_same(seen["evaluated"][10], seen["end"][10])
    # Training has gone on as if nothing had been evaluated or saved.
    assert all_the_same(seen["went_on"][10], seen["end"][10])
    assert all_the_same(saved_in(tmp_path / "checkpoint-10"), seen["evaluated"][10])
    # What is left in the model, and is saved and evaluated from now on, are the averages.
    assert has_averages(trainer.model, dog)
    assert all_the_same(named(trainer.model), seen["evaluated"][20])
    trainer.save_model(str(tmp_path / "final"))
    assert all_the_same(saved_in(tmp_path / "final"), seen["evaluated"][20])


@pytest.mark.parametrize("step", [5, 10], ids=["without an evaluation", "after an evaluation"])
def test_trainer_goes_on_from_its_checkpoint_as_if_never_stopped(huggingface, tmp_path, step):
    whole = huggingface.build(str(tmp_path), 20, save_steps=5)
    seen = watched(whole)
    whole.train()
    resumed = huggingface.build(str(tmp_path / "resumed"), 20, save_steps=5)
    seen_resumed = watched(resumed)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert min(seen_resumed["end"]) == step + 1
    assert all_the_same(seen_resumed["end"][20], seen["end"][20])
    assert all_the_same(named(resumed.model), named(whole.model))
    telemetry = [trainer.optimizer.optimizer.telemetry() for trainer in (whole, resumed)]
    assert telemetry[0] == telemetry[1]


def test_trainer_that_loads_the_best_model_keeps_it(huggingface, tmp_path):
    # The checkpoint with the highest loss, which is the first, so that it is not the last.
    best = {"metric_for_best_model": "loss", "greater_is_better": True}
    trainer = huggingface.build(str(tmp_path), 20, load_best_model_at_end=True, **best)
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-10")
    loss = trainer.evaluate()["eval_loss"]
    assert all_the_same(named(trainer.model), saved_in(tmp_path / "checkpoint-10"))
    assert loss == trainer.state.best_metric


def test_trainer_with_defaults_is_told_of_its_groups_and_its_schedule(huggingface, tmp_path):
    trainer = huggingface.build(str(tmp_path), 3, save_strategy="no", lr_scheduler_type="linear")
    trainer.optimizer_cls_and_kwargs = (DoG, {})
    with pytest.warns(UserWarning) as warned:
        trainer.train()
    sentences = [str(warning.message) for warning in warned]
    assert sum('scope="global"' in sentence for sentence in sentences) == 1
    assert sum("constant schedule" in sentence for sentence in sentences) == 1


def test_trainer_learns(huggingface, tmp_path):
    trainer = huggingface.build(str(tmp_path), 120, save_strategy="no")
    trainer.train()
    first, last = (log["eval_loss"] for log in trainer.state.log_history if "eval_loss" in log)
    assert last < first and last < 1.3  # chance is 1.39


# Accelerate ---------------------------------------------------------------------------------------


def test_accelerate_loop_steps_once_for_two_batches_and_saves_averages(tmp_path):
    loop = example("accelerate_loop", "accelerate", "sklearn")
    model, dog, accuracy = loop.main(4, str(tmp_path))
    assert accuracy > 0.5 and dog.telemetry()[0]["step"] == 4 * 22
    assert has_averages(model, dog)
    assert all_the_same(saved_in(tmp_path), named(model))


def test_accelerates_wrapper_switches_modes_and_its_state_saved_in_eval_mode_resumes(tmp_path):
    pytest.importorskip("accelerate", reason="needs accelerate: run make setup")
    from accelerate import Accelerator

    def prepared():
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        optimizer = DoG(model.parameters(), reps_rel=1e-2, averaging=PolynomialDecay())
        accelerator = Accelerator()
        return accelerator, *accelerator.prepare(model, optimizer)

    def train(accelerator, model, optimizer, steps):
        for t in steps:
            optimizer.zero_grad()
            accelerator.backward((model(torch.eye(3) * t) - 1).square().mean())
            optimizer.step()

    accelerator, model, optimizer = whole = prepared()
    train(*whole, range(3))
    optimizer.eval()
    assert has_averages(model, optimizer.optimizer)
    accelerator.save_state(str(tmp_path))
    resumed = prepared()
    resumed[0].load_state(str(tmp_path))
    assert all_the_same(named(resumed[1]), named(model))
    for run in (whole, resumed):
        run[2].train()
        train(*run, range(3, 6))
    assert all_the_same(named(resumed[1]), named(model))


# Lightning ----------------------------------------------------------------------------------------


@pytest.fixture
def lightning_example():
    module = example("lightning_module", "pytorch_lightning", "sklearn")
    module.lightning.seed_everything(0, verbose=False)
    return module


def quiet(lightning, epochs, folder, **more):
    """Return a Trainer of Lightning that shows nothing and logs nowhere."""
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options |= {"accelerator": "cpu", "max_epochs": epochs, "default_root_dir": folder}
    return lightning.Trainer(**options | more)


def test_lightning_validates_and_saves_averages_and_goes_on_from_the_weights(
    lightning_example, tmp_path
):
    lightning = lightning_example.lightning

    class Watcher(lightning.Callback):
        def __init__(self):
            self.trained, self.went_on, self.validated = [], [], []

        def on_train_batch_end(self, trainer, module, *_):
            self.trained.append(named(module))

        def on_before_optimizer_step(self, trainer, module, optimizer):
            self.went_on.append(named(module))

        def on_validation_epoch_end(self, trainer, module):
            self.validated.append(named(module))

    def fit(epochs, folder, **options):
        lightning.seed_everything(0, verbose=False)
        module, watcher = lightning_example.Digits(), Watcher()
        keep = lightning.callbacks.ModelCheckpoint(folder, monitor="accuracy", save_last=True)
        trainer = quiet(lightning, epochs, folder, callbacks=[watcher, keep])
        trainer.fit(module, lightning_example.TRAIN, lightning_example.TEST, **options)
        return trainer, module, watcher

    fit(1, tmp_path / "first")
    saved = torch.load(tmp_path / "first" / "last.ckpt", weights_only=True)
    trainer, module, watcher = fit(2, tmp_path / "whole")
    # The sanity check before training, then one for each epoch.
    assert len(watcher.validated) == 3 and len(watcher.trained) == 44
    assert all_the_same(watcher.went_on[22], watcher.trained[21])
    # The checkpoint of the first epoch, which the run of two has passed through as well.
    assert all_the_same(saved["state_dict"], watcher.validated[1])
    assert not all_the_same(watcher.validated[1], watcher.trained[21])
    assert has_averages(module, trainer.optimizers[0])
    assert trainer.callback_metrics["accuracy"] > 0.5

    resumed, resumed_module, resumed_watcher = fit(
        2, tmp_path / "resumed", ckpt_path=tmp_path / "first" / "last.ckpt"
    )
    assert all_the_same(resumed_watcher.trained[-1], watcher.trained[-1])
    assert all_the_same(named(resumed_module), named(module))
    assert resumed.optimizers[0].telemetry() == trainer.optimizers[0].telemetry()


def test_lightning_clips_in_mixed_precision_where_dog_does_it(lightning_example, tmp_path):
    options = {"precision": "bf16-mixed", "limit_train_batches": 3, "enable_checkpointing": False}

    def fit(max_grad_norm=None, **more):
        module = lightning_example.Digits()
        optimizer = DoG(module.parameters(), reps_rel=1e-4, averaging=PolynomialDecay(),
                        max_grad_norm=max_grad_norm)  # fmt: skip
        module.configure_optimizers = lambda: optimizer
        trainer = quiet(lightning_example.lightning, 1, tmp_path, **options, **more)
        trainer.fit(module, lightning_example.TRAIN)
        return optimizer.telemetry()[0]

    with pytest.raises(RuntimeError, match="performs unscaling"):  # as with a fused AdamW
        fit(gradient_clip_val=0.1)
    numbers = fit(max_grad_norm=0.1)  # what docs/optimizers.md says to do
    assert numbers["gradient_norm"] > 0.2 and numbers["G"] == pytest.approx(3 * 0.1**2, rel=1e-3)


# LoRA ---------------------------------------------------------------------------------------------


def test_lora_trains_and_keeps_the_adapters_alone_and_saves_their_averages(tmp_path):
    lora = example("lora_peft", "peft", "transformers")
    model, optimizer, losses = lora.main(150, str(tmp_path))
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert all("lora_" in name or "modules_to_save" in name for name in names)
    assert {id(p) for p in optimizer.state} == {id(p) for p in trained(model)}
    # What is frozen is as it was.
    fresh = {name: p.detach() for name, p in lora.base_model().named_parameters()}
    frozen = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): p.detach()
        for name, p in model.named_parameters()
        if name not in names and "original_module" not in name
    }
    assert frozen and all(torch.equal(p, fresh[name]) for name, p in frozen.items())
    assert has_averages(model, optimizer)
    loaded = lora.PeftModel.from_pretrained(lora.base_model(), tmp_path)
    found = named(loaded)
    assert same([found[name] for name in names], trained(model))


# Factories that take an optimizer by its name -----------------------------------------------------


@pytest.mark.parametrize("name", ["dog", "ldog"])
def test_timm_makes_the_optimizer_by_its_name(name):
    factory = example("timm_factory", "timm", "sklearn")
    model, optimizer, accuracy = factory.main(100, name)
    assert accuracy > 0.7 and len(optimizer.param_groups) == 2
    assert len(optimizer.telemetry()) == (1 if name == "dog" else 4)
    assert has_averages(model, optimizer)


def test_timms_training_script_makes_it_from_its_arguments():
    from types import SimpleNamespace

    factory = example("timm_factory", "timm", "sklearn")
    from timm.optim import create_optimizer_v2, optimizer_kwargs

    words = SimpleNamespace(opt="dog", lr=1.0, weight_decay=0.0, momentum=0.9)
    model = torch.nn.Linear(3, 1)
    optimizer = create_optimizer_v2(model, **optimizer_kwargs(words))
    assert type(optimizer) is factory.DoG and optimizer.scope == "global"


def test_pytorch_optimizer_makes_the_optimizer_by_its_name():
    factory = example("pytorch_optimizer_factory", "pytorch_optimizer")
    _, optimizer, losses = factory.main(100)
    assert type(optimizer) is DoG and len(optimizer.telemetry()) == 1
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_diffusion_trainers_make_the_optimizer_by_its_path(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))  # as the folder of the script is
    trainers = example("diffusion_trainers")
    weights = torch.nn.Parameter(torch.ones(4))
    words = ["reps_rel=1e-3", 'scope="global"', "max_grad_norm=None"]
    optimizer = trainers.resolve("dog.DoG", words, [weights], lr=1.0)
    assert type(optimizer) is DoG and optimizer.scope == "global"
    assert optimizer.defaults["reps_rel"] == 1e-3

    path = "diffusion_trainers.DoGScheduleFree"
    assert path.lower().endswith("schedulefree")  # what sd-scripts asks before it calls eval()
    optimizer = trainers.resolve(path, ["reps_rel=1e-3", "gamma=4"], [weights], lr=1.0)
    assert optimizer.averaging == PolynomialDecay(gamma=4)
    for _ in range(5):
        optimizer.zero_grad()
        weights.square().sum().backward()
        optimizer.step()
    before = weights.detach().clone()
    optimizer.eval()
    assert torch.equal(weights, optimizer.state[weights]["average"])
    assert not torch.equal(weights, before)
    optimizer.train()
    assert torch.equal(weights, before)
