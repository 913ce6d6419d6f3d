"""`choose_strategy` on machines that are not there: lists of physical, visible and logical devices are planted.

TensorFlow's own context holds the planted lists, so what it refuses on such a machine it refuses here, and its own
configuration shows with which devices and memory its runtime would start.
"""

import json

import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from tfdist.cluster.environments.readers import read_cluster
from tfdist.process.errors import TfdistError
from tfdist.strategy import chosen, hardware
from tfdist.strategy.choose import choose_strategy

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("cpus")]

TWO_WORKERS = {"TF_CONFIG": json.dumps({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}})}
SHARED = {"TFDIST_WORKERS_PER_GPU": "2"}
POD = {"TPU_WORKER_HOSTNAMES": "a,b,c,d"}
NAMES = (
    *("TF_CONFIG", "TFDIST_WORKERS_PER_GPU", "TPU_NAME", "TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES"),
    *("COLAB_TPU_ADDR", "KUBE_GOOGLE_CLOUD_TPU_ENDPOINTS"),
)


class Made:
    """A strategy that is recorded and not made.

    Args:
        text: its name, devices and communication, as the rows below write them.
        replicas: its number of replicas.
    """

    def __init__(self, text, replicas=1):
        self.text, self.num_replicas_in_sync = text, replicas


class Machine:
    """A machine with planted devices.

    Args:
        monkeypatch: pytest's.
        gpus: the number of physical GPUs.
        visible: the indices that `set_visible_devices` was given; None where it was not called.
        split: for a GPU's index, the memory limits of its logical devices.
        growth: for a GPU's index, what `set_memory_growth` was given.
        tpu: whether the installed TensorFlow is built for TPUs.
        tpu_fails: whether the TPU's initialization fails.
    """

    def __init__(self, monkeypatch, *, gpus=0, visible=None, split=None, growth=None, tpu=False, tpu_fails=False):
        cards = [tf.config.PhysicalDevice(f"/physical_device:GPU:{index}", "GPU") for index in range(gpus)]
        cpu = tf.config.PhysicalDevice("/physical_device:CPU:0", "CPU")
        self.context = context.Context()
        self.context._physical_devices = [cpu, *cards]
        self.context._visible_device_list = [cpu, *cards]
        self.context._memory_growth_map = dict.fromkeys(cards)
        self.context._pluggable_devices = []
        monkeypatch.setattr(context, "_context", self.context)
        if visible is not None:
            tf.config.set_visible_devices([cards[index] for index in visible], "GPU")
        for index, limits in (split or {}).items():
            logical = [tf.config.LogicalDeviceConfiguration(memory_limit=limit) for limit in limits]
            tf.config.set_logical_device_configuration(cards[index], logical)
        for index, value in (growth or {}).items():
            tf.config.experimental.set_memory_growth(cards[index], value)
        self._tpu_fails = tpu_fails
        monkeypatch.setattr(hardware, "has_tpu_kernels", lambda: tpu)
        for name, stand_in in (
            ("OneDeviceStrategy", lambda device: Made(f"one_device {device}")),
            ("MirroredStrategy", self._mirrored),
            ("MultiWorkerMirroredStrategy", self._multi_worker),
            ("TPUStrategy", lambda resolver: Made(f"tpu {resolver}", 8)),
        ):
            monkeypatch.setattr(tf.distribute, name, stand_in)
        monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", str)
        monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", lambda resolver: None)
        monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", self._initialize_tpu)

    def _mirrored(self, devices, cross_device_ops):
        return Made(f"mirrored {','.join(devices)} {type(cross_device_ops).__name__}", len(devices))

    def _multi_worker(self, communication_options):
        return Made(f"multi_worker {communication_options.implementation.value}", 2)

    def _initialize_tpu(self, resolver):
        # Afterwards no device can be configured, whether there is a TPU or not.
        self.context._initialized, self.context._context_handle = True, object()
        if self._tpu_fails:
            # As TensorFlow for TPUs 2.20 fails on a machine without one.
            raise RuntimeError(
                "Graph execution error:\n\nDetected at node x/_1 defined at (most recent call last):\n<stack traces "
                "unavailable>\nno TPU answered \n\t [[{{node x/_1}}]] [Op:__inference__tpu_init_fn_4]"
            )

    def memory(self):
        """Returns how much of the GPUs' memory TensorFlow's runtime would take: "grows", "all", or limits."""
        options = self.context.config.gpu_options
        limits = [list(map(int, device.memory_limit_mb)) for device in options.experimental.virtual_devices]
        if not options.visible_device_list:
            return ""
        return str(limits) if any(limits) else "grows" if options.allow_growth else "all"

    def logical_gpus(self):
        """Counts the logical GPUs with which TensorFlow's runtime would start."""
        return self.context.config.device_count["GPU"]


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Returns a function (environ, **devices) → a bare `Machine`, on which nothing of this one is seen."""
    signs = hardware.tpu_signs
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hardware, "tpu_signs", lambda: signs(device_folder=tmp_path))
    monkeypatch.setattr(chosen._Chosen, "strategy", chosen._Chosen.strategy)
    monkeypatch.setattr(chosen._Chosen, "alone", False)

    def make(environ, **devices):
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        return Machine(monkeypatch, **devices)

    return make


def row(made, memory="", *, environ=None, name="auto", wants=None, **devices):
    """Returns a row of the table: what is made on a machine, and the memory that its GPUs then give."""
    wanted = "".join(f" {key}={value}" for key, value in (wants or {}).items())
    there = "".join(f" {key}={value}" for key, value in (devices | (environ or {})).items() if key != "TF_CONFIG")
    workers = " of 2 workers" if "TF_CONFIG" in (environ or {}) else ""
    return pytest.param(devices, environ or {}, name, wants or {}, made, memory, id=f"{name}{wanted}:{there}{workers}")


@pytest.mark.parametrize(
    ("devices", "environ", "name", "wants", "made", "memory"),
    [
        row("one_device CPU:0"),
        row("mirrored CPU:0,CPU:1 ReductionToOneDevice", name="mirrored"),
        row("mirrored CPU:0,CPU:1,CPU:2 ReductionToOneDevice", wants={"replicas": 3}),
        # Whole GPUs.
        row("one_device GPU:0", "grows", gpus=1),
        row("mirrored GPU:0 ReductionToOneDevice", "grows", name="mirrored", gpus=1),
        row("mirrored GPU:0,GPU:1 NcclAllReduce", "grows", gpus=2),
        row("mirrored GPU:0,GPU:1,GPU:2,GPU:3,GPU:4,GPU:5,GPU:6,GPU:7 NcclAllReduce", "grows", gpus=8),
        row("mirrored GPU:0,GPU:1 NcclAllReduce", "grows", wants={"replicas": 2}, gpus=4),
        row(
            "mirrored GPU:0,GPU:1 HierarchicalCopyAllReduce",
            "grows",
            wants={"communication": "hierarchical_copy"},
            gpus=2,
        ),
        row("one_device GPU:0", "grows", name="one_device", gpus=2),
        # GPUs that the user has hidden: the others are numbered anew.
        row("one_device GPU:0", "grows", gpus=2, visible=[1]),
        row("mirrored GPU:0,GPU:1 NcclAllReduce", "grows", gpus=4, visible=[1, 3]),
        row("mirrored GPU:0,GPU:1,GPU:2 NcclAllReduce", "grows", name="mirrored", gpus=4, visible=[0, 2, 3]),
        row("one_device CPU:0", gpus=2, visible=[]),
        row("mirrored CPU:0,CPU:1 ReductionToOneDevice", name="mirrored", gpus=2, visible=[]),
        # Split GPUs, and memory that the user has limited.
        row("mirrored GPU:0,GPU:1 ReductionToOneDevice", "[[512, 512]]", gpus=1, split={0: [512, 512]}),
        row(
            "mirrored GPU:0 ReductionToOneDevice", "[[512, 512]]", wants={"replicas": 1}, gpus=1, split={0: [512, 512]}
        ),
        row("one_device GPU:0", "[[512, 512]]", name="one_device", gpus=1, split={0: [512, 512]}),
        row("one_device GPU:0", "[[1024]]", gpus=1, split={0: [1024]}),
        row("mirrored GPU:0,GPU:1 NcclAllReduce", "[[1024], [2048]]", gpus=2, split={0: [1024], 1: [2048]}),
        row("mirrored GPU:0,GPU:1,GPU:2 ReductionToOneDevice", "[[512, 512], []]", gpus=2, split={0: [512, 512]}),
        row("mirrored GPU:0,GPU:1 ReductionToOneDevice", "[[9, 9]]", gpus=2, visible=[1], split={1: [9, 9]}),
        row("one_device GPU:0", "all", gpus=1, growth={0: False}),
        row("mirrored GPU:0,GPU:1 NcclAllReduce", "all", gpus=2, growth={0: False, 1: False}),
        row("mirrored GPU:0,GPU:1 NcclAllReduce", "grows", gpus=2, growth={0: True, 1: True}),
        # Workers.
        row("multi_worker RING", environ=TWO_WORKERS),
        row("multi_worker AUTO", "grows", environ=TWO_WORKERS, gpus=1),
        row("multi_worker NCCL", "grows", environ=TWO_WORKERS, wants={"communication": "nccl"}, gpus=1),
        row("multi_worker RING", "grows", environ=TWO_WORKERS | SHARED, gpus=1),
        row("multi_worker RING", "[[512, 512]]", environ=TWO_WORKERS, gpus=1, split={0: [512, 512]}),
        row("multi_worker RING", environ=TWO_WORKERS, gpus=1, visible=[]),
        row("multi_worker AUTO", "grows", environ=TWO_WORKERS | {"TPU_NAME": "local"}, gpus=1),
        # TPUs, and what is taken in the place of one that cannot be used.
        row("tpu local", tpu=True),
        row("tpu local", environ={"TPU_NAME": "local"}, name="tpu", tpu=True),
        row("tpu grpc://a:8470", environ={"TPU_NAME": "grpc://a:8470"}),
        row("tpu mine", environ={"TPU_NAME": "another"}, wants={"tpu": "mine"}),
        row("tpu pod", environ=POD | {"TPU_NAME": "pod", "TPU_WORKER_ID": "0"}),
        row("tpu local", environ={"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}, tpu=True),
        row("one_device CPU:0", environ={"TPU_WORKER_ID": "0"}),
        row("mirrored GPU:0,GPU:1 NcclAllReduce", "grows", environ={"TPU_NAME": "local"}, gpus=2),
        row("one_device GPU:0", "grows", environ={"TPU_NAME": "local"}, gpus=1, tpu=True, tpu_fails=True),
        row("one_device CPU:0", tpu=True, tpu_fails=True),
        row("mirrored CPU:0,CPU:1 ReductionToOneDevice", environ={"TPU_NAME": "local"}, name="mirrored"),
    ],
)
def test_the_devices_are_those_that_the_user_has_left(machine, devices, environ, name, wants, made, memory):
    there = machine(environ, **devices)
    strategy = choose_strategy(name, start_seconds=0, **wants)
    assert (strategy.text, there.memory()) == (made, memory)
    if "GPU:" in made:
        assert strategy.num_replicas_in_sync <= there.logical_gpus()


@pytest.mark.parametrize(
    ("devices", "environ", "name", "wants", "message", "memory"),
    [
        row(
            "'nccl' needs a GPU of its own for each replica, but this process may use no GPU. Leave it out, or use "
            "'one_device'.",
            name="mirrored",
            wants={"communication": "nccl"},
        ),
        row(
            "may use 2 logical GPUs on 1 GPU. Leave it out", wants={"communication": "nccl"}, gpus=1, split={0: [9, 9]}
        ),
        row(
            "2 workers share each GPU. Leave it out, or use 'ring'.",
            environ=TWO_WORKERS | SHARED,
            wants={"communication": "nccl"},
            gpus=1,
        ),
        row(
            "may use no GPU. Leave it out, or use 'ring'.",
            environ=TWO_WORKERS,
            wants={"communication": "nccl"},
            gpus=1,
            visible=[],
        ),
        row(
            "over 2 replicas needs as many GPUs, but this process may use 1 GPU.",
            wants={"replicas": 2},
            gpus=4,
            visible=[3],
        ),
        row(
            "the installed TensorFlow is not built for TPUs. Signs of a TPU here: TPU_WORKER_ID. On a TPU machine run: "
            "pip uninstall tensorflow; pip install 'tensorflow-tpu",
            name="tpu",
            environ={"TPU_WORKER_ID": "0"},
        ),
        row(
            "no TPU could be used. Tried TPUClusterResolver('local'), connect_to_cluster, initialize_tpu_system; the "
            "last one failed with: no TPU answered Signs of a TPU here: a TensorFlow for TPUs.",
            name="tpu",
            tpu=True,
            tpu_fails=True,
        ),
        # It was named, so nothing is taken in its place.
        row("Tried TPUClusterResolver('mine'), connect_to_cluster", environ={"TPU_NAME": "mine"}, tpu_fails=True),
        row("TPU_WORKER_HOSTNAMES lists 4 hosts of one TPU, but without a TPU_NAME", environ=POD, tpu=True),
        row("but TPU_WORKER_ID is 1 here", environ=POD | {"TPU_NAME": "pod", "TPU_WORKER_ID": "1"}),
        row("one process controls all cores of a TPU, but the cluster has 2 workers", name="tpu", environ=TWO_WORKERS),
        row("tpu is 'mine', but mirrored trains on other devices.", name="mirrored", wants={"tpu": "mine"}),
        row("tpu is ''. Give the TPU's name", wants={"tpu": ""}),
    ],
)
def test_devices_that_cannot_do_what_is_asked_are_refused(machine, devices, environ, name, wants, message, memory):
    machine(environ, **devices)
    with pytest.raises(TfdistError) as error:
        choose_strategy(name, start_seconds=0, **wants)
    assert str(error.value).startswith("strategy: ") and message in str(error.value)


def test_what_is_taken_for_a_tpu_that_is_not_there_is_logged(machine, caplog):
    machine({"TPU_WORKER_ID": "0"}, gpus=2)
    with caplog.at_level("INFO", logger="tfdist"):
        choose_strategy()
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("strategy: no TPU could be used, because the installed TensorFlow is not built for TPUs.")
    assert first.endswith("Going on without it.") and second == "strategy mirrored (2 GPUs): 2 replicas."


def test_a_cluster_of_one_worker_takes_all_gpus(machine):
    alone = json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}})
    machine({}, gpus=2)
    made = choose_strategy(cluster=read_cluster({"TF_CONFIG": alone}))
    assert made.text == "mirrored GPU:0,GPU:1 NcclAllReduce"
