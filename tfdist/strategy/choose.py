"""Chooses and makes the `tf.distribute.Strategy` for a cluster, its hardware and a request."""

import contextlib
import os
import signal
import sys
import threading

import tensorflow as tf

from tfdist.cluster.addresses import hosts_of
from tfdist.cluster.environments import tpu as tpu_environment
from tfdist.cluster.fingerprint import fingerprint
from tfdist.cluster.gpus import workers_per_gpu
from tfdist.cluster.joining import join_cluster
from tfdist.cluster.members import Cluster
from tfdist.cluster.rendezvous import meet
from tfdist.internals.access import runtime, tpu
from tfdist.options.checks import is_count, is_number
from tfdist.process.errors import StateError, UsageError
from tfdist.process.log import say
from tfdist.process.nearest import did_you_mean, with_known_arguments
from tfdist.process.versions import INSTALL_FOR_TPU
from tfdist.strategy import chosen, hardware
from tfdist.strategy.decide import decide, describe_gpus, is_split

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
# How long processes that do not wait for each other at the start still have to tell their addresses.
_EXCHANGE_SECONDS = 120.0


@with_known_arguments
def choose_strategy(
    name: str = "auto",
    *,
    cluster: Cluster | None = None,
    replicas: int | None = None,
    communication: str | None = None,
    start_seconds: float = 120.0,
    alone: bool = False,
    tpu: str | None = None,
) -> tf.distribute.Strategy:
    """Chooses and makes the strategy, and logs its name, the reason and the number of replicas in one line.

    Args:
        name: "auto", "one_device", "mirrored", "multi_worker" or "tpu". "auto" takes multi_worker for a cluster of
            several workers, else a TPU, else several GPUs, else one device.
        cluster: a `Cluster`; by default the one that the environment describes (TF_CONFIG, a scheduler, a launcher such
            as mpirun).
        replicas: for mirrored: the number of GPUs or, without a GPU, of logical CPU devices (by default 2).
        communication: None for the default on this hardware; for mirrored "nccl", "hierarchical_copy" or "one_device";
            for multi_worker "ring", "nccl" or "auto".
        start_seconds: how long several workers wait for each other before an error names the absent ones; 0 if they
            have already met.
        alone: whether this process trains alone, though the environment describes several.
        tpu: the name of a TPU, or the addresses of its hosts (grpc://host:port); by default TPU_NAME, or else the TPU
            of this machine.

    Returns:
        A `tf.distribute.Strategy`.

    Raises:
        ValueError: the name is unknown, the arguments contradict each other, the cluster's description is wrong, or a
            launcher has started several processes that tfdist cannot bring together.
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
    if tpu is not None:
        name = _check_tpu(name, tpu)
    replicas = int(replicas) if replicas is not None and is_count(replicas) else replicas
    if not os.environ.get("TF_CONFIG", "{}").strip():
        # tfdist takes an empty one for none; TensorFlow would read JSON from it.
        del os.environ["TF_CONFIG"]
    if cluster is None and not alone:
        cluster = join_cluster(os.environ, timeout_seconds=start_seconds or _EXCHANGE_SECONDS)
    if cluster:
        # Before GPUs are counted, because CUDA reads this variable once and ignores later changes.
        os.environ.update(cluster.gpu_environment())
    choice = decide(
        name,
        workers=cluster.size if cluster else 0,
        gpus=hardware.logical_gpus(),
        tpu_signs=hardware.tpu_signs(),
        replicas=replicas,
    )
    if name == "auto" and choice.name == "tpu":
        strategy, choice = _tpu_or_next(choice, replicas, communication)
    else:
        strategy = _make(choice, cluster, communication, start_seconds, tpu)
    chosen.remember(strategy, alone=alone)
    say(
        f"strategy {choice.name} ({choice.reason}): {strategy.num_replicas_in_sync} replica"
        f"{'s' if strategy.num_replicas_in_sync > 1 else ''}."
    )
    return strategy


def _tpu_or_next(choice, replicas, communication):
    """Makes the TPU strategy or, if that fails, logs why and decides again without a TPU.

    Signs of a TPU do not prove that it can be used; a name of a TPU elsewhere says that it is wanted.
    """
    try:
        return _make(choice, None, communication), choice
    except RuntimeError as error:
        if tpu_environment.read_name(os.environ) != tpu_environment.LOCAL:
            raise
        say(f"{error} Going on without it.")
    choice = decide("auto", gpus=hardware.logical_gpus(), replicas=replicas)
    return _make(choice, None, communication), choice


def _check_tpu(name, tpu):
    if not isinstance(tpu, str) or not tpu:
        raise UsageError(f"strategy: tpu is {tpu!r}. Give the TPU's name or its addresses, or leave it out.")
    if name not in ("auto", "tpu"):
        raise UsageError(f"strategy: tpu is {tpu!r}, but {name} trains on other devices. Use strategy='tpu'.")
    return "tpu"


def _make(choice, cluster, communication, start_seconds=0, tpu=None):
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
        return _make_tpu(tpu)
    hardware.grow_gpu_memory()
    return tf.distribute.OneDeviceStrategy("GPU:0" if hardware.logical_gpus() else "CPU:0")


def _make_mirrored(replicas, communication):
    gpus = hardware.logical_gpus()
    hardware.grow_gpu_memory()
    devices = [f"GPU:{i}" for i in range(replicas)] if gpus else hardware.logical_cpus(replicas)
    # TensorFlow's own choice for CPU devices may still be NCCL.
    usual = "nccl" if len(gpus) > 1 and _are_whole(gpus) else "one_device"
    reduction = _lookup(_REDUCTIONS, communication or usual, "mirrored")
    _check_nccl(communication, gpus, "one_device")
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction())


def _check_nccl(communication, gpus, other):
    """Refuses NCCL where TensorFlow would fail, perhaps only after minutes: it needs a GPU for each replica."""
    if communication != "nccl" or _are_whole(gpus):
        return
    sharing = workers_per_gpu(os.environ)
    found = (
        f"{sharing} workers share each GPU" if gpus and sharing > 1 else f"this process may use {describe_gpus(gpus)}"
    )
    raise UsageError(
        f"strategy: communication 'nccl' needs a GPU of its own for each replica, but {found}. Leave it out, or use "
        f"{other!r}."
    )


def _are_whole(gpus):
    """Returns whether there are GPUs, each of them for one replica alone."""
    return bool(gpus) and not is_split(gpus) and workers_per_gpu(os.environ) == 1


def _make_multi_worker(cluster, communication, start_seconds):
    hardware.grow_gpu_memory()
    gpus = hardware.logical_gpus()
    usual = "auto" if _are_whole(gpus) else "ring"
    implementation = _lookup(_COMMUNICATION, communication or usual, "multi_worker")
    _check_nccl(communication, gpus, "ring")
    options = tf.distribute.experimental.CommunicationOptions(implementation=implementation)
    # If an earlier strategy of this process has configured them, TensorFlow has already taken the port.
    if not runtime.collectives_configured():
        _meet(cluster, start_seconds)
        _prepare_exchange(cluster)
    # TensorFlow reads the cluster from the environment; this is the one place that writes it.
    os.environ.update(cluster.environment())
    # Making the strategy replaces the handler.
    with _handlers_restored(signal.SIGTERM):
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
def _handlers_restored(*signals, meanwhile=None):
    """Restores the handlers of signals afterwards; in another thread than the main one they are left alone.

    Args:
        *signals: their numbers.
        meanwhile: a handler to set while the context is entered, or None.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.getsignal(each) for each in signals}
    try:
        for each in signals if meanwhile is not None else ():
            signal.signal(each, meanwhile)
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)


def _lookup(table, name, strategy):
    if name not in table:
        raise UsageError(
            f"strategy: communication {name!r} is unknown to {strategy}. Use one of {', '.join(table)}."
            f"{did_you_mean(name, table)}"
        )
    return table[name]


def _make_tpu(asked):
    """Makes a TPUStrategy; the error of a failure lists the stages that were tried."""
    name = tpu_environment.read_name(os.environ, asked)
    signs = f"Signs of a TPU here: {', '.join(hardware.tpu_signs()) or 'none'}."
    # Before anything starts the runtime, after which the GPUs or CPUs that are taken instead cannot be configured. The
    # hosts of a TPU elsewhere have the kernels themselves.
    if name == tpu_environment.LOCAL and not hardware.has_tpu_kernels():
        raise StateError(
            f"strategy: no TPU could be used, because the installed TensorFlow is not built for TPUs. {signs} On a TPU "
            f"machine run: {INSTALL_FOR_TPU}"
        )
    hardware.grow_gpu_memory()
    say(f"strategy tpu: connecting to {name!r}. This waits until it answers; Ctrl-C ends the program.")
    tried = []
    try:
        # Python's handlers would wait for TensorFlow to return.
        with _handlers_restored(signal.SIGINT, signal.SIGTERM, meanwhile=signal.SIG_DFL):
            tried.append(f"TPUClusterResolver({name!r})")
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver(name)
            tried.append("connect_to_cluster")
            tf.config.experimental_connect_to_cluster(resolver)
            # A resolver succeeds even without a TPU; only the initialization fails.
            tried.append("initialize_tpu_system")
            tf.tpu.experimental.initialize_tpu_system(resolver)
            tried.append("TPUStrategy")
            return tf.distribute.TPUStrategy(resolver)
    except Exception as error:
        raise StateError(
            f"strategy: no TPU could be used. Tried {', '.join(tried)}; the last one failed with: {_reason(error)} "
            f"{signs} {tpu_environment.CHECK_NAME}"
        ) from error


def _reason(error):
    """Returns the first line of TensorFlow's message that is not about where in a graph it happened."""
    lines = [line.strip() for line in str(error).splitlines()]
    about_place = ("Graph execution error", "Detected at node", "<stack traces", "[[{{node")
    return next((line for line in lines if line and not line.startswith(about_place)), type(error).__name__)


def needs_static_shapes(strategy):
    """Returns whether all batches must have the same shape, because a TPU compiles the whole step for it."""
    return tpu.is_tpu(strategy)
