"""Which strategy is decided on, from facts alone, and which requests are refused."""

import pytest

from tfdist.options.run import STRATEGIES
from tfdist.strategy.decide import StrategyChoice, decide, describe_gpus, is_split

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("name", "facts", "choice"),
    [
        ("auto", {}, StrategyChoice("one_device", 1, "no cluster of several workers, no TPU, no GPU")),
        (
            "auto",
            {"workers": 1, "gpus": (1,)},
            StrategyChoice("one_device", 1, "no cluster of several workers, no TPU, one GPU"),
        ),
        (
            "auto",
            {"replicas": 1},
            StrategyChoice("one_device", 1, "no cluster of several workers, no TPU, no GPU"),
        ),
        ("auto", {"gpus": (1, 1, 1, 1)}, StrategyChoice("mirrored", 4, "4 GPUs")),
        ("auto", {"gpus": (1, 1, 1, 1), "replicas": 2}, StrategyChoice("mirrored", 2, "asked for; 4 GPUs")),
        ("auto", {"gpus": (1, 1, 1, 1), "replicas": 1}, StrategyChoice("mirrored", 1, "asked for; 4 GPUs")),
        (
            "auto",
            {"replicas": 3},
            StrategyChoice("mirrored", 3, "asked for; no GPU, so 3 logical CPU devices"),
        ),
        (
            "auto",
            {"gpus": (1, 1, 1, 1, 1, 1, 1, 1), "tpu_signs": ["TPU_NAME", "/dev/accel0"]},
            StrategyChoice("tpu", None, "signs of a TPU: TPU_NAME, /dev/accel0"),
        ),
        (
            "auto",
            {"workers": 2, "gpus": (1, 1, 1, 1, 1, 1, 1, 1), "tpu_signs": ["TPU_NAME"]},
            StrategyChoice("multi_worker", None, "the cluster has 2 workers"),
        ),
        ("one_device", {"workers": 3, "gpus": (1, 1)}, StrategyChoice("one_device", 1, "asked for")),
        ("one_device", {"replicas": 1}, StrategyChoice("one_device", 1, "asked for")),
        (
            "mirrored",
            {},
            StrategyChoice("mirrored", 2, "asked for; no GPU, so 2 logical CPU devices"),
        ),
        (
            "mirrored",
            {"replicas": 5},
            StrategyChoice("mirrored", 5, "asked for; no GPU, so 5 logical CPU devices"),
        ),
        ("mirrored", {"gpus": (1,)}, StrategyChoice("mirrored", 1, "asked for; 1 GPU")),
        ("mirrored", {"gpus": (1, 1, 1, 1), "replicas": 3}, StrategyChoice("mirrored", 3, "asked for; 4 GPUs")),
        (
            "multi_worker",
            {"workers": 1},
            StrategyChoice("multi_worker", None, "asked for; the cluster has 1 worker"),
        ),
        ("tpu", {}, StrategyChoice("tpu", None, "asked for")),
        ("tpu", {"workers": 1}, StrategyChoice("tpu", None, "asked for")),
        ("auto", {"gpus": (2,)}, StrategyChoice("mirrored", 2, "2 logical GPUs on 1 GPU")),
        ("mirrored", {"gpus": (2, 1)}, StrategyChoice("mirrored", 3, "asked for; 3 logical GPUs on 2 GPUs")),
    ],
)
def test_a_strategy_is_decided_from_facts(name, facts, choice):
    assert decide(name, **facts) == choice


@pytest.mark.parametrize(
    ("name", "facts", "message"),
    [
        (
            "miror",
            {},
            "strategy: 'miror' is not one of auto, one_device, mirrored, multi_worker, tpu.",
        ),
        (
            "gpu",
            {},
            "strategy: 'gpu' is not one of auto, one_device, mirrored, multi_worker, tpu. Did you mean 'mirrored'?",
        ),
        ("auto", {"replicas": 0}, "strategy: replicas is 0. Use a whole number from 1."),
        (
            "multi_worker",
            {},
            "strategy: multi_worker needs a cluster, and there is none in the environment. "
            "Set TF_CONFIG on each host, or start the job with srun.",
        ),
        (
            "mirrored",
            {"gpus": (1, 1), "replicas": 3},
            "strategy: mirrored over 3 replicas needs as many GPUs, but this process may use 2 GPUs. "
            "Use replicas=2 or fewer.",
        ),
        (
            "auto",
            {"gpus": (1, 1), "replicas": 3},
            "strategy: mirrored over 3 replicas needs as many GPUs, but this process may use 2 GPUs.",
        ),
        (
            "auto",
            {"gpus": (1,), "replicas": 2},
            "strategy: mirrored over 2 replicas needs as many GPUs, but this process may use 1 GPU.",
        ),
        (
            "one_device",
            {"replicas": 2},
            "strategy: replicas is 2, but one_device takes its number from the devices (asked "
            "for). Leave replicas out, or use strategy='mirrored'.",
        ),
        (
            "auto",
            {"workers": 2, "replicas": 2},
            "strategy: replicas is 2, but multi_worker takes its number from the devices (the "
            "cluster has 2 workers). Leave replicas out",
        ),
        ("tpu", {"replicas": 8}, "strategy: replicas is 8, but tpu takes its number from the"),
        (
            "tpu",
            {"workers": 2},
            "strategy: one process controls all cores of a TPU, but the cluster has 2 workers, and each would train a "
            "model of its own. Start one process without the cluster",
        ),
        (
            "mirrored",
            {"gpus": (2,), "replicas": 3},
            "needs as many GPUs, but this process may use 2 logical GPUs on 1 GPU. Use replicas=2 or fewer.",
        ),
    ],
)
def test_requests_that_cannot_be_met_are_refused(name, facts, message):
    with pytest.raises(ValueError) as error:
        decide(name, **facts)
    assert message in str(error.value)


def test_the_names_are_those_of_the_config():
    assert {decide(name, workers=1).name for name in STRATEGIES} == {*STRATEGIES} - {"auto"}


@pytest.mark.parametrize(
    ("gpus", "text", "split"),
    [
        ((), "no GPU", False),
        ((1,), "1 GPU", False),
        ((1, 1), "2 GPUs", False),
        ((2,), "2 logical GPUs on 1 GPU", True),
        ((1, 3), "4 logical GPUs on 2 GPUs", True),
    ],
)
def test_gpus_are_described_with_their_logical_devices(gpus, text, split):
    assert (describe_gpus(gpus), is_split(gpus)) == (text, split)
