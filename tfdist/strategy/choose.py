"""Chooses and makes the `tf.distribute.Strategy` for a cluster, its hardware and a request."""

import contextlib
import dataclasses
import os
import signal
import sys
import threading

import tensorflow as tf

from tfdist.cluster.alone import check_sole
from tfdist.cluster.fingerprint import fingerprint
from tfdist.cluster.gpus import check_logical_cpus
from tfdist.cluster.rendezvous import meet
from tfdist.cluster.tf_config import Cluster, hosts_of, read_cluster
from tfdist.internals.access import runtime, tpu
from tfdist.options.checks import is_count, is_number
from tfdist.options.run import STRATEGIES
from tfdist.process.errors import StateError, UsageError
from tfdist.process.log import say
from tfdist.process.nearest import did_you_mean
from tfdist.strategy import chosen, hardware

_REDUCTIONS = {
    "nccl": tf.distribute.NcclAllReduce,
    "hierarchical_copy": tf.distribute.HierarchicalCopyAllReduce,
    "one_device": tf.distribute.ReductionToOneDevice,
}
_COMMUNICATION = {
    "auto": tf.distribute.experimental.CommunicationImplementation.AUTO,
    "ring": tf.distribute.experimental.CommunicationImplementation.RING,
    "nccl": tf.distribute.experimental.CommunicationImplementation.NCCL,
}
# Small enough that the C library does not ask the system for new memory each time. Two workers of one machine summed
# 94 MB in 102 ms with strings of this size, in 142 ms with TensorFlow's 4 KiB.
_BYTES_PER_STRING = 2**16


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


def decide(name, *, workers=0, gpus=0, tpu_signs=(), replicas=None):
    """Decides on a strategy, from its arguments alone.

    Args:
        name: one of `tfdist.options.run.STRATEGIES`.
        workers: training workers in the cluster; 0 without one.
        gpus: physical GPUs of this machine.
        tpu_signs: the signs of a TPU, as `hardware.tpu_signs` lists them.
        replicas: the requested number of replicas, or None.

    Returns:
        A `StrategyChoice`.

    Raises:
        ValueError: the name is unknown, or the arguments contradict each other.
    """
    if name not in STRATEGIES:
        raise UsageError(f"strategy: {name!r} is not one of {', '.join(STRATEGIES)}.{did_you_mean(name, STRATEGIES)}")
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
    if gpus > 1 and replicas is None:
        return StrategyChoice("mirrored", gpus, f"{gpus} GPUs")
    if replicas is not None and (replicas > 1 or gpus > 1):
        return _decide_named("mirrored", workers, gpus, replicas)
    device = "one GPU" if gpus else "no GPU"
    return StrategyChoice("one_device", 1, f"no cluster of several workers, no TPU, {device}")


def _decide_named(name, workers, gpus, replicas):
    if name == "multi_worker":
        if not workers:
            raise UsageError(
                "strategy: multi_worker needs a cluster, and there is none in the environment. Set TF_CONFIG on each "
                "host, or start the job with srun."
            )
        return StrategyChoice(name, None, f"asked for; the cluster has {workers} worker(s)")
    if name == "mirrored":
        if gpus and replicas and replicas > gpus:
            raise UsageError(
                f"strategy: mirrored over {replicas} replicas needs as many GPUs, but this machine has {gpus} GPU(s). "
                f"Use replicas={gpus} or fewer."
            )
        if gpus:
            return StrategyChoice(name, replicas or gpus, f"asked for; {gpus} GPU(s)")
        count = replicas or 2
        check_logical_cpus(count)
        return StrategyChoice(name, count, f"asked for; no GPU, so {count} logical CPU devices")
    if name == "tpu":
        return StrategyChoice(name, None, "asked for")
    return StrategyChoice("one_device", 1, "asked for")


def choose_strategy(
    name: str = "auto",
    *,
    cluster: Cluster | None = None,
    replicas: int | None = None,
    communication: str | None = None,
    start_seconds: float = 120.0,
    alone: bool = False,
) -> tf.distribute.Strategy:
    """Chooses and makes the strategy, and logs its name, the reason and the number of replicas in one line.

    Args:
        name: "auto", "one_device", "mirrored", "multi_worker" or "tpu". "auto" takes multi_worker for a cluster of
            several workers, else a TPU, else several GPUs, else one device.
        cluster: a `Cluster`; by default the one that the environment describes (TF_CONFIG, a Slurm step).
        replicas: for mirrored: the number of GPUs or, without a GPU, of logical CPU devices (by default 2).
        communication: None for the default on this hardware; for mirrored "nccl", "hierarchical_copy" or "one_device";
            for multi_worker "ring", "nccl" or "auto".
        start_seconds: how long several workers wait for each other before an error names the absent ones; 0 if they
            have already met.
        alone: whether this process trains alone, though the environment describes several.

    Returns:
        A `tf.distribute.Strategy`.

    Raises:
        ValueError: the name is unknown, the arguments contradict each other, the cluster's description is wrong, or a
            launcher has started several processes without a description of their cluster.
        RuntimeError: a requested device is missing, TensorFlow's runtime has started too early, a worker is absent or
            differs, or a port is taken.

    Example:
        ```python
        import keras

        import tfdist

        strategy = tfdist.choose_strategy("mirrored", replicas=2)
        with strategy.scope():
            model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        ```
    """
    if cluster is not None and not isinstance(cluster, Cluster):
        raise UsageError(f"strategy: cluster is {cluster!r}. Use tfdist.read_cluster(os.environ), or leave it out.")
    if not is_number(start_seconds) or start_seconds < 0:
        raise UsageError(f"strategy: start_seconds is {start_seconds!r}. Use a number from 0.")
    if alone and cluster:
        raise UsageError("choose_strategy: alone is True, but a cluster is given. Give one of them.")
    replicas = int(replicas) if replicas is not None and is_count(replicas) else replicas
    cluster = None if alone else cluster or read_cluster(os.environ)
    if cluster is None and not alone:
        check_sole(os.environ)
    if cluster:
        # Before GPUs are counted, because CUDA reads this variable once and ignores later changes.
        os.environ.update(cluster.gpu_environment())
    choice = decide(
        name,
        workers=cluster.size if cluster else 0,
        gpus=hardware.gpu_count(),
        tpu_signs=hardware.tpu_signs(),
        replicas=replicas,
    )
    if name == "auto" and choice.name == "tpu":
        strategy, choice = _tpu_or_next(choice, replicas, communication)
    else:
        strategy = _make(choice, cluster, communication, start_seconds)
    chosen.remember(strategy, alone=alone)
    say(
        f"strategy {choice.name} ({choice.reason}): {strategy.num_replicas_in_sync} replica"
        f"{'s' if strategy.num_replicas_in_sync > 1 else ''}."
    )
    return strategy


def _tpu_or_next(choice, replicas, communication):
    """Makes the TPU strategy or, if that fails, logs why and decides again without a TPU.

    Signs of a TPU do not prove that it can be used.
    """
    try:
        return _make(choice, None, communication), choice
    except RuntimeError as error:
        say(f"{error} Going on without it.")
    choice = decide("auto", gpus=hardware.gpu_count(), replicas=replicas)
    return _make(choice, None, communication), choice


def _make(choice, cluster, communication, start_seconds=0):
    if choice.name == "multi_worker":
        return _make_multi_worker(cluster, communication, start_seconds)
    if choice.name == "mirrored":
        return _make_mirrored(choice.replicas, communication)
    if communication is not None:
        raise UsageError(
            f"strategy: communication is {communication!r}, but {choice.name} has no choice of communication. "
            "Leave it out."
        )
    if choice.name == "tpu":
        return _make_tpu()
    hardware.grow_gpu_memory()
    return tf.distribute.OneDeviceStrategy("GPU:0" if hardware.gpu_count() else "CPU:0")


def _make_mirrored(replicas, communication):
    gpus = hardware.gpu_count()
    hardware.grow_gpu_memory()
    devices = [f"GPU:{i}" for i in range(replicas)] if gpus else hardware.logical_cpus(replicas)
    # NCCL works on physical GPUs only, but TensorFlow's own choice for CPU devices may still be NCCL.
    usual = "nccl" if gpus > 1 else "one_device"
    reduction = _lookup(_REDUCTIONS, communication or usual, "mirrored")
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction())


def _make_multi_worker(cluster, communication, start_seconds):
    hardware.grow_gpu_memory()
    usual = "auto" if hardware.gpu_count() else "ring"
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=_lookup(_COMMUNICATION, communication or usual, "multi_worker")
    )
    # If an earlier strategy of this process has configured them, TensorFlow has already taken the port.
    if not runtime.collectives_configured():
        _meet(cluster, start_seconds)
        _prepare_exchange(cluster)
    # TensorFlow reads the cluster from the environment; this is the one place that writes it.
    os.environ.update(cluster.environment())
    with _sigterm_kept():
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


def _meet(cluster, start_seconds):
    """Waits for the other workers, and checks that they match this one.

    TensorFlow itself would wait for ever.
    """
    # TensorFlow's own message is "Collective ops must be configured at program startup".
    if runtime.has_started():
        raise StateError(
            "strategy: multi_worker has to be made before anything else starts TensorFlow's runtime, but this program "
            "has started it already, with a tensor, a variable, a model, a list of logical devices, or another "
            "strategy. Call tfdist.choose_strategy first; in a recipe, create such objects inside functions (in a "
            "notebook: restart the runtime and run that cell first)."
        )
    if start_seconds and cluster.size > 1:
        script = [sys.argv[0]] if os.path.isfile(sys.argv[0]) else []
        own_fingerprint = fingerprint(files=script, environ=os.environ | cluster.environment())
        meet(cluster, own_fingerprint, timeout_seconds=start_seconds)


def _prepare_exchange(cluster):
    runtime.set_bytes_per_string(_BYTES_PER_STRING)
    # With a second thread, ResNet-50 was 1.1 times as fast over 1 Gbit/s, but 0.93 times within one machine, where the
    # exchange itself needs the core.
    if len(hosts_of(cluster.workers)) > 1:
        hardware.add_thread_for_exchange()


@contextlib.contextmanager
def _sigterm_kept():
    """Restores the SIGTERM handler afterwards, because making a strategy of several workers replaces it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _lookup(table, name, strategy):
    if name not in table:
        raise UsageError(
            f"strategy: communication {name!r} is unknown to {strategy}. Use one of {', '.join(table)}."
            f"{did_you_mean(name, table)}"
        )
    return table[name]


def _make_tpu():
    """Makes a TPUStrategy; the error of a failure lists the stages that were tried."""
    tried = []
    try:
        tried.append("TPUClusterResolver('local')")
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver("local")
        tried.append("connect_to_cluster")
        tf.config.experimental_connect_to_cluster(resolver)
        # A resolver succeeds even without a TPU; only the initialization fails.
        tried.append("initialize_tpu_system")
        tf.tpu.experimental.initialize_tpu_system(resolver)
        tried.append("TPUStrategy")
        return tf.distribute.TPUStrategy(resolver)
    except Exception as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StateError(
            f"strategy: no TPU could be used. Tried {', '.join(tried)}; the last one failed with: {first_line} "
            f"Signs of a TPU here: {', '.join(hardware.tpu_signs()) or 'none'}. Install tensorflow-tpu on a TPU "
            "machine, or use another strategy."
        ) from error


def needs_static_shapes(strategy):
    """Returns whether all batches must have the same shape, because a TPU compiles the whole step for it."""
    return tpu.is_tpu(strategy)
