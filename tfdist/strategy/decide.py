"""Decides on a strategy, from facts alone: nothing is made, and no device is touched."""

import dataclasses

from tfdist.cluster.gpus import check_logical_cpus
from tfdist.options.checks import is_count
from tfdist.options.neighbours import suggest_choice
from tfdist.options.run import STRATEGIES
from tfdist.process.errors import UsageError


@dataclasses.dataclass(frozen=True)
class StrategyChoice:
    """A strategy chosen but not yet made.

    Attributes:
        name: one_device, mirrored, multi_worker or tpu.
        replicas: the number of replicas on this machine; None where only the runtime knows it.
        reason: the reason for the choice, for the log.
    """

    name: str
    replicas: int | None
    reason: str


def decide(name, *, workers=0, gpus=(), tpu_signs=(), replicas=None):
    """Decides on a strategy, from its arguments alone.

    Args:
        name: one of `tfdist.options.run.STRATEGIES`.
        workers: training workers in the cluster; 0 without one.
        gpus: for each GPU that this process may use, its logical devices, as `hardware.logical_gpus` counts them.
        tpu_signs: the signs of a TPU, as `hardware.tpu_signs` lists them.
        replicas: the requested number of replicas, or None.

    Returns:
        A `StrategyChoice`.

    Raises:
        ValueError: the name is unknown, or the arguments contradict each other.
    """
    if name not in STRATEGIES:
        raise UsageError(f"strategy: {name!r} is not one of {', '.join(STRATEGIES)}.{suggest_choice(name, STRATEGIES)}")
    if replicas is not None and not is_count(replicas):
        raise UsageError(f"strategy: replicas is {replicas!r}. Use a whole number from 1.")
    choice = _decide_auto(workers, gpus, tpu_signs, replicas) if name == "auto" else None
    choice = choice or _decide_named(name, workers, gpus, replicas)
    if replicas is not None and choice.name != "mirrored" and choice.replicas != replicas:
        raise UsageError(
            f"strategy: replicas is {replicas}, but {choice.name} takes its number from the devices "
            f"({choice.reason}). Leave replicas out, or use strategy='mirrored'."
        )
    return choice


def _decide_auto(workers, gpus, tpu_signs, replicas):
    if workers > 1:
        return StrategyChoice("multi_worker", None, f"the cluster has {workers} workers")
    if tpu_signs:
        return StrategyChoice("tpu", None, f"signs of a TPU: {', '.join(tpu_signs)}")
    count = sum(gpus)
    if count > 1 and replicas is None:
        return StrategyChoice("mirrored", count, describe_gpus(gpus))
    if replicas is not None and (replicas > 1 or count > 1):
        return _decide_named("mirrored", workers, gpus, replicas)
    device = "one GPU" if count else "no GPU"
    return StrategyChoice("one_device", 1, f"no cluster of several workers, no TPU, {device}")


def _decide_named(name, workers, gpus, replicas):
    if name == "multi_worker":
        if not workers:
            raise UsageError(
                "strategy: multi_worker needs a cluster, and there is none in the environment. Set TF_CONFIG on each "
                "host, or start the job with srun."
            )
        return StrategyChoice(name, None, f"asked for; the cluster has {workers} worker{'s' * (workers > 1)}")
    if name == "mirrored":
        return _decide_mirrored(gpus, replicas)
    if name == "tpu":
        if workers > 1:
            raise UsageError(
                f"strategy: one process controls all cores of a TPU, but the cluster has {workers} workers, and each "
                "would train a model of its own. Start one process without the cluster (unset TF_CONFIG), on host 0 "
                "of the TPU."
            )
        return StrategyChoice(name, None, "asked for")
    return StrategyChoice("one_device", 1, "asked for")


def _decide_mirrored(gpus, replicas):
    count = sum(gpus)
    if count and replicas and replicas > count:
        raise UsageError(
            f"strategy: mirrored over {replicas} replicas needs as many GPUs, but this process may use "
            f"{describe_gpus(gpus)}. Use replicas={count} or fewer."
        )
    if count:
        return StrategyChoice("mirrored", replicas or count, f"asked for; {describe_gpus(gpus)}")
    replicas = replicas or 2
    check_logical_cpus(replicas)
    return StrategyChoice("mirrored", replicas, f"asked for; no GPU, so {replicas} logical CPU devices")


def describe_gpus(gpus):
    """Returns words such as "no GPU", "4 GPUs" or "2 logical GPUs on 1 GPU".

    Args:
        gpus: for each GPU, the number of its logical devices.
    """
    cards = f"{len(gpus) or 'no'} GPU{'s' * (len(gpus) > 1)}"
    return f"{sum(gpus)} logical GPUs on {cards}" if is_split(gpus) else cards


def is_split(gpus):
    """Returns whether several logical devices share a GPU, where NCCL does not work.

    Args:
        gpus: for each GPU, the number of its logical devices.
    """
    return any(count > 1 for count in gpus)
