"""Each example trains, uses averages where it says so, and can be gone on with."""

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


def weights(model):
    """Return copies of the parameters that are trained, in their order."""
    return [p.detach().clone() for p in model.parameters() if p.requires_grad]


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


def averages(optimizer_state):
    """Return the averages in an optimizer's state dict, in the order of its parameters."""
    return [entry["average"] for _, entry in sorted(optimizer_state["state"].items())]


def fell(losses):
    """Say whether the last tenth of the losses is lower than the first, on average."""
    tenth = max(1, len(losses) // 10)
    return sum(losses[-tenth:]) < sum(losses[:tenth])


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_docstring_is_a_line_with_the_command(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert f"`python examples/{path.name}" in docstring and "\n" not in docstring


# A plain loop -------------------------------------------------------------------------------------


def test_plain_loop_evaluates_averages_and_leaves_the_weights():
    result = (plain := example("plain_loop", "sklearn")).main(steps=100)
    model, optimizer = result["model"], result["optimizer"]
    assert fell(result["losses"]) and result["averaged"] > 0.5
    before = weights(model)
    with optimizer.averaged():
        assert same(weights(model), averages(optimizer.state_dict()))
        assert not same(weights(model), before)
        assert plain.accuracy(model, *result["test"]) == result["averaged"]
    assert same(weights(model), before)
    assert plain.accuracy(model, *result["test"]) == result["last"]


def test_plain_loop_goes_on_from_its_checkpoint_as_if_never_stopped(tmp_path):
    plain = example("plain_loop", "sklearn")
    whole = plain.main(steps=40)
    plain.main(steps=25, checkpoint=tmp_path / "saved.pt", save_every=10)
    resumed = plain.main(steps=40, checkpoint=tmp_path / "saved.pt")
    assert len(resumed["losses"]) == 15 and same(resumed["losses"], whole["losses"][25:])
    assert same(weights(resumed["model"]), weights(whole["model"]))
    assert resumed["optimizer"].telemetry() == whole["optimizer"].telemetry()
    again = plain.main(steps=40, checkpoint=tmp_path / "saved.pt")
    assert again["losses"] == [] and again["averaged"] == whole["averaged"]


# The transformers Trainer -------------------------------------------------------------------------


@pytest.fixture
def huggingface():
    return example("huggingface_trainer", "transformers", "accelerate")


def watched(trainer):
    """Note the weights at the end and the beginning of steps and in evaluations, by step."""
    from transformers import TrainerCallback

    seen = {"end": {}, "begin": {}, "evaluated": {}}

    class Watcher(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            seen["end"][state.global_step] = named(model)

        def on_step_begin(self, args, state, control, model=None, **kwargs):
            seen["begin"][state.global_step] = named(model)

        def on_evaluate(self, args, state, control, model=None, **kwargs):
            seen["evaluated"][state.global_step] = named(model)

    trainer.add_callback(Watcher())
    return seen


def test_trainer_evaluates_and_saves_averages_and_trains_on_from_the_weights(huggingface, tmp_path):
    trainer = huggingface.build(20, str(tmp_path), logging_steps=5)
    seen = watched(trainer)
    trainer.train()
    state = torch.load(tmp_path / "checkpoint-10" / "optimizer.pt", weights_only=True)
    assert same(seen["evaluated"][10].values(), averages(state))
    assert all_the_same(saved_in(tmp_path / "checkpoint-10"), seen["evaluated"][10])
    assert not all_the_same(seen["evaluated"][10], seen["end"][10])
    # Training has gone on as if nothing had been evaluated or saved.
    assert all_the_same(seen["begin"][10], seen["end"][10])
    training = tmp_path / "checkpoint-10" / "in_training"
    assert all_the_same(saved_in(training), seen["end"][10])
    # What is left in the model, and is saved and evaluated from now on, are the averages.
    assert all_the_same(named(trainer.model), seen["evaluated"][20])
    trainer.save_model(str(tmp_path / "final"))
    assert all_the_same(saved_in(tmp_path / "final"), seen["evaluated"][20])
    logged = [log["eta"] for log in trainer.state.log_history if "eta" in log]
    assert len(logged) == 4 and logged[-1] == trainer.dog.telemetry()[0]["eta"]


def test_trainer_goes_on_from_its_checkpoint_as_if_never_stopped(huggingface, tmp_path):
    whole = huggingface.build(20, str(tmp_path / "whole"))
    seen = watched(whole)
    whole.train()
    resumed = huggingface.build(20, str(tmp_path / "resumed"))
    seen_resumed = watched(resumed)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-10"))
    assert min(seen_resumed["end"]) == 11
    assert all_the_same(seen_resumed["end"][20], seen["end"][20])
    assert all_the_same(named(resumed.model), named(whole.model))
    assert resumed.dog.telemetry() == whole.dog.telemetry()


def test_trainer_that_loads_the_best_model_keeps_it(huggingface, tmp_path):
    # The checkpoint with the highest loss, which is the first, so that it is not the last.
    best = {"metric_for_best_model": "loss", "greater_is_better": True}
    trainer = huggingface.build(20, str(tmp_path), load_best_model_at_end=True, **best)
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-10")
    loss = trainer.evaluate()["eval_loss"]
    assert all_the_same(named(trainer.model), saved_in(tmp_path / "checkpoint-10"))
    assert loss == trainer.state.best_metric


def test_trainer_that_makes_its_groups_and_schedule_itself_is_told_what_they_do(
    huggingface, tmp_path
):
    from transformers import Trainer, TrainingArguments

    model = huggingface.build(1, str(tmp_path)).model
    quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no"}
    trainer = Trainer(
        model=model,
        args=TrainingArguments(str(tmp_path), max_steps=3, **quiet),
        train_dataset=huggingface.sentences(64, seed=0),
        optimizer_cls_and_kwargs=(DoG, {}),
    )
    with pytest.warns(UserWarning) as warned:
        trainer.train()
    sentences = [str(warning.message) for warning in warned]
    assert sum('scope="global"' in sentence for sentence in sentences) == 1
    assert sum("constant schedule" in sentence for sentence in sentences) == 1


def test_trainer_learns(huggingface):
    result = huggingface.main(steps=150)
    losses = [log["loss"] for log in result["trainer"].state.log_history if "loss" in log]
    assert losses[-1] < losses[0] and result["averaged"] > 0.3 and result["last"] > 0.3


# Accelerate ---------------------------------------------------------------------------------------


def test_accelerate_loop_steps_once_for_two_batches_and_saves_averages(tmp_path):
    result = example("accelerate_loop", "accelerate", "sklearn").main(4, str(tmp_path))
    model, optimizer = result["model"], result["optimizer"]
    assert fell(result["losses"]) and result["averaged"] > 0.5
    assert len(result["losses"]) == 4 * 44 and optimizer.telemetry()[0]["step"] == 4 * 22
    saved = saved_in(tmp_path)
    assert not all_the_same(saved, named(model))
    with optimizer.averaged():
        assert all_the_same(saved, named(model))


# Lightning ----------------------------------------------------------------------------------------


def test_lightning_validates_and_saves_averages_and_goes_on_from_the_weights(tmp_path):
    example_of = example("lightning_module", "pytorch_lightning", "sklearn")
    import pytorch_lightning as lightning

    class Watcher(lightning.Callback):
        def __init__(self):
            self.trained, self.validated, self.restored = None, [], []

        def on_train_batch_end(self, trainer, module, *_):
            self.trained = named(module)

        def on_validation_epoch_end(self, trainer, module):
            self.validated.append(named(module))

        def on_validation_end(self, trainer, module):
            if self.trained is not None:
                self.restored.append(all_the_same(named(module), self.trained))

    def fit(epochs, folder, **options):
        trainer, module = example_of.build(epochs, folder, callbacks=[watcher := Watcher()])
        train, test = example_of.loaders()
        # Not shuffled, since Lightning does not save where the shuffling has come to.
        train = torch.utils.data.DataLoader(train.dataset, batch_size=64)
        trainer.fit(module, train, test, **options)
        return trainer, module, watcher

    fit(1, tmp_path / "first")
    saved = torch.load(tmp_path / "first" / "last.ckpt", weights_only=True)
    trainer, module, watcher = fit(2, tmp_path / "whole")
    # The sanity check before training, then one for each epoch.
    assert len(watcher.validated) == 3 and watcher.restored == [True, True]
    # The checkpoint of the first epoch, which the run of two has passed through as well.
    assert all_the_same(saved["state_dict"], watcher.validated[1])
    assert same(saved["state_dict"].values(), averages(saved["optimizer_states"][0]))
    assert not all_the_same(saved["state_dict"], saved["in_training"])
    assert all_the_same(named(module), watcher.validated[2])
    assert not all_the_same(named(module), watcher.trained)
    assert trainer.callback_metrics["accuracy"] > 0.5 and trainer.callback_metrics["eta"] > 0

    resumed, resumed_module, resumed_watcher = fit(
        2, tmp_path / "resumed", ckpt_path=tmp_path / "first" / "last.ckpt"
    )
    assert all_the_same(resumed_watcher.trained, watcher.trained)
    assert all_the_same(named(resumed_module), named(module))
    assert resumed.optimizers[0].telemetry() == trainer.optimizers[0].telemetry()


def test_lightning_clips_in_mixed_precision_where_dog_does_it(tmp_path):
    example_of = example("lightning_module", "pytorch_lightning", "sklearn")
    train, _ = example_of.loaders()
    options = {"precision": "bf16-mixed", "accelerator": "cpu", "limit_train_batches": 3}

    def fit(max_grad_norm=None, **more):
        trainer, module = example_of.build(1, str(tmp_path), **options, **more)
        optimizer = DoG(module.parameters(), reps_rel=1e-4, averaging=PolynomialDecay(),
                        max_grad_norm=max_grad_norm)  # fmt: skip
        module.configure_optimizers = lambda: optimizer
        trainer.fit(module, train)
        return optimizer.telemetry()[0]

    with pytest.raises(RuntimeError, match="performs unscaling"):  # as with a fused AdamW
        fit(gradient_clip_val=0.1)
    numbers = fit(max_grad_norm=0.1)  # what docs/optimizers.md says to do
    assert numbers["gradient_norm"] > 0.2 and numbers["G"] == pytest.approx(3 * 0.1**2, rel=1e-3)


def test_lightning_module_learns():
    result = example("lightning_module", "pytorch_lightning", "sklearn").main(epochs=4)
    assert result["averaged"] > 0.7 and result["last"] > 0.7 and result["eta"] > 0


# LoRA ---------------------------------------------------------------------------------------------


def test_lora_state_is_of_the_adapters_alone_and_their_averages_are_saved():
    lora = example("lora_peft", "peft", "transformers")
    result = lora.main(steps=150)
    model, optimizer, loaded = result["model"], result["optimizer"], result["loaded"]
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name or "modules_to_save" in name for name in trained)
    assert {id(p) for p in optimizer.state} == {id(p) for p in trained.values()}
    # An average of each weight, at most a start of each, and the numbers of each tensor.
    rows = 20 * len(trained)
    assert result["trained"] <= result["kept"] <= 2 * result["trained"] + rows
    # What is frozen is as it was.
    fresh = {name: p.detach() for name, p in lora.base_model().named_parameters()}
    frozen = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): p.detach()
        for name, p in model.named_parameters()
        if name not in trained and "original_module" not in name
    }
    assert frozen and all(torch.equal(p, fresh[name]) for name, p in frozen.items())
    before = weights(model)
    found = {name: p for name, p in loaded.named_parameters() if name in trained}
    with optimizer.averaged():
        assert same([found[name].detach() for name in trained], weights(model))
        assert not same(weights(model), before)
    assert same(weights(model), before)
    assert result["reloaded"] == result["averaged"] and fell(result["losses"])
