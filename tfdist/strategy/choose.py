"""Cluster, hardware and wish → a `tf.distribute.Strategy`, with the reason."""

import contextlib
import dataclasses
import os
import signal
import sys
import threading

import tensorflow as tf

from tfdist.cluster.fingerprint import fingerprint
from tfdist.cluster.rendezvous import meet
from tfdist.cluster.tf_config import hosts_of, read_cluster
from tfdist.internals.access import runtime
from tfdist.options.run import STRATEGIES
from tfdist.process.errors import StateError, UsageError
from tfdist.process.log import say
from tfdist.strategy import hardware

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
# Below what the C library takes from the system anew each time. To sum 94 MB took two workers of one machine 142 ms in
# TensorFlow's strings of 4 KiB, 102 ms in these.
_BYTES_PER_STRING = 2**16


@dataclasses.dataclass(frozen=True)
class StrategyChoice:
    """A strategy chosen but not yet made.

    Attributes:
        name: one_device, mirrored, multi_worker or tpu.
        replicas: how many on this machine; None where only the runtime can tell.
        reason: why, for the log.
    """

    name: str
    replicas: int | None
    reason: str


def decide(name, *, workers=0, gpus=0, tpu_signs=(), replicas=None):
    """Decides on a strategy, from facts alone.

    Args:
        name: one of `tfdist.options.run.STRATEGIES`.
        workers: training workers in the cluster; 0 without one.
        gpus: physical GPUs of this machine.
        tpu_signs: what hints at a TPU.
        replicas: the number of replicas wished for, or None.

    Returns:
        A `StrategyChoice`.

    Raises:
        ValueError: an unknown name, or wishes that contradict each other.
    """
    if name not in STRATEGIES:
        raise UsageError(f"strategy: {name!r} is not one of {', '.join(STRATEGIES)}.")
    if replicas is not None and replicas < 1:
        raise UsageError(f"strategy: replicas is {replicas}. Use 1 or more.")
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
                f"strategy: mirrored over {replicas} replicas, but this machine has {gpus} GPU(s). Use replicas={gpus} "
                "or fewer."
            )
        if gpus:
            return StrategyChoice(name, replicas or gpus, f"asked for; {gpus} GPU(s)")
        count = replicas or 2
        return StrategyChoice(name, count, f"asked for; no GPU, so {count} logical CPU devices")
    if name == "tpu":
        return StrategyChoice(name, None, "asked for")
    return StrategyChoice("one_device", 1, "asked for")


def choose_strategy(name="auto", *, cluster=None, replicas=None, communication=None, start_seconds=120.0):
    """Chooses and makes the strategy, and says in one line which, why, and over how many replicas.

    Args:
        name: "auto", "one_device", "mirrored", "multi_worker" or "tpu". "auto" takes multi_worker for a cluster of more
            than one, then a TPU, then several GPUs, else one device.
        cluster: a `Cluster`; by default what the environment says (TF_CONFIG, a Slurm step).
        replicas: for mirrored: how many GPUs or, without any, how many logical CPU devices (2).
        communication: None for what works best here; for mirrored "nccl", "hierarchical_copy" or "one_device"; for
            multi_worker "ring", "nccl" or "auto".
        start_seconds: how long several workers wait for one another before the absent are named; 0 where they have met.

    Returns:
        A `tf.distribute.Strategy`.

    Raises:
        ValueError: an unknown name, contradicting wishes, or a mistake in the cluster's description.
        RuntimeError: devices that are asked for but not there, TensorFlow's runtime has started too early, a worker
            that is absent or differs, or a port that is taken.
    """
    cluster = cluster or read_cluster(os.environ)
    if cluster and cluster.gpus is not None:
        # Before GPUs are counted: CUDA reads this variable once, and what is set later has no effect.
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(cluster.gpus)
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
    say(
        f"strategy {choice.name} ({choice.reason}): {strategy.num_replicas_in_sync} replica"
        f"{'s' if strategy.num_replicas_in_sync > 1 else ''}."
    )
    return strategy


def _tpu_or_next(choice, replicas, communication):
    """Takes the TPU if it initialises; signs alone prove nothing, so "auto" goes on without it, and says so."""
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
            f"strategy: communication is {communication!r}, but {choice.name} has nothing to choose there. Leave it "
            "out."
        )
    if choice.name == "tpu":
        return _make_tpu()
    hardware.grow_gpu_memory()
    return tf.distribute.OneDeviceStrategy("GPU:0" if hardware.gpu_count() else "CPU:0")


def _make_mirrored(replicas, communication):
    gpus = hardware.gpu_count()
    hardware.grow_gpu_memory()
    devices = [f"GPU:{i}" for i in range(replicas)] if gpus else hardware.logical_cpus(replicas)
    # NCCL knows physical GPUs alone; on CPU devices TensorFlow's own choice may be NCCL all the same.
    usual = "nccl" if gpus > 1 else "one_device"
    reduction = _lookup(_REDUCTIONS, communication or usual, "mirrored")
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction())


def _make_multi_worker(cluster, communication, start_seconds):
    hardware.grow_gpu_memory()
    usual = "auto" if hardware.gpu_count() else "ring"
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=_lookup(_COMMUNICATION, communication or usual, "multi_worker")
    )
    # By an earlier strategy of this process: TensorFlow has the port by now.
    if not runtime.collectives_configured():
        _meet(cluster, start_seconds)
        _prepare_exchange(cluster)
    # TensorFlow reads the cluster from the environment; this is the one place that writes it.
    os.environ.update(cluster.environment())
    with _sigterm_kept():
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


def _meet(cluster, start_seconds):
    """Waits for the other workers, for TensorFlow would wait for ever, and holds them against this one."""
    # TensorFlow's own word for it is "Collective ops must be configured at program startup".
    if runtime.has_started():
        raise StateError(
            "strategy: multi_worker has to be made before anything else starts TensorFlow's runtime, but this program "
            "has started it already, by a tensor, a variable, a model, a list of logical devices, or another strategy. "
            "Call tfdist.choose_strategy first; in a recipe, leave such things to functions (in a notebook: restart "
            "the runtime and run that cell first)."
        )
    if start_seconds and cluster.size > 1:
        script = [sys.argv[0]] if os.path.isfile(sys.argv[0]) else []
        hello = fingerprint(files=script, environ=os.environ | cluster.environment())
        meet(cluster, hello, timeout_seconds=start_seconds)


def _prepare_exchange(cluster):
    runtime.send_in_strings_of(_BYTES_PER_STRING)
    # ResNet-50, the second thread against none: 1.1 times as fast behind 1 Gbit/s, 0.93 times within one machine, where
    # the exchange wants the core itself.
    if len(hosts_of(cluster.workers)) > 1:
        hardware.add_thread_for_exchange()


@contextlib.contextmanager
def _sigterm_kept():
    """Keeps what SIGTERM does: with a strategy of several workers TensorFlow would swallow it from now on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _lookup(table, name, strategy):
    if name not in table:
        raise UsageError(f"strategy: communication {name!r} is unknown to {strategy}. Use one of {', '.join(table)}.")
    return table[name]


def _make_tpu():
    """Makes a TPUStrategy step by step, so that a failure tells which step it was."""
    tried = []
    try:
        tried.append("TPUClusterResolver('local')")
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver("local")
        tried.append("connect_to_cluster")
        tf.config.experimental_connect_to_cluster(resolver)
        # A resolver succeeds where there is no TPU at all: only the initialisation tells.
        tried.append("initialize_tpu_system")
        tf.tpu.experimental.initialize_tpu_system(resolver)
        tried.append("TPUStrategy")
        return tf.distribute.TPUStrategy(resolver)
    except Exception as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StateError(
            f"strategy: no TPU could be used. Tried {', '.join(tried)}; the last step said: {first_line} "
            f"Signs of a TPU here: {', '.join(hardware.tpu_signs()) or 'none'}. Install tensorflow-tpu on a TPU "
            "machine, or use another strategy."
        ) from error


def worker_count(strategy):
    """Counts the workers that train together: 1 without a cluster."""
    resolver = strategy.cluster_resolver
    if resolver is None or not getattr(resolver, "task_type", None):
        return 1
    jobs = resolver.cluster_spec().as_dict()
    return max(1, sum(len(jobs.get(job, ())) for job in ("chief", "worker")))


def needs_static_shapes(strategy):
    """Says whether every batch must have one shape: a TPU compiles the whole step for it."""
    return isinstance(strategy, tf.distribute.TPUStrategy)


def worker_rank(strategy):
    """Gives this worker's place among those that train together: the chief is 0."""
    resolver = strategy.cluster_resolver
    if resolver is None or not getattr(resolver, "task_type", None):
        return 0
    chiefs = len(resolver.cluster_spec().as_dict().get("chief", ()))
    return resolver.task_id + (chiefs if resolver.task_type == "worker" else 0)


def is_chief(strategy):
    """Says whether this process is the one that writes what there must be one of."""
    resolver = strategy.cluster_resolver
    if resolver is None or not getattr(resolver, "task_type", None):
        return True
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or (not has_chief and resolver.task_id == 0)
