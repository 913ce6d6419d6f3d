"""Which strategy is chosen, why, and what is logged about it."""

import json
import logging
import os

import pytest
import tensorflow as tf
from support.processes import run_python, run_together, run_workers

from tfdist.cluster.members import Cluster, Task
from tfdist.cluster.ports import free_ports
from tfdist.strategy import hardware
from tfdist.strategy.choose import choose_strategy

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("cpus")]


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch):
    """Makes every machine one without GPU, TPU or cluster."""
    monkeypatch.setattr(hardware, "logical_gpus", tuple)
    monkeypatch.setattr(hardware, "tpu_signs", list)
    for name in list(os.environ):
        if name == "TF_CONFIG" or name.startswith("SLURM_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "replicas", "kind", "count", "line"),
    [
        (
            "auto",
            None,
            tf.distribute.OneDeviceStrategy,
            1,
            "strategy one_device (no cluster of several workers, no TPU, no GPU): 1 replica.",
        ),
        (
            "one_device",
            1,
            tf.distribute.OneDeviceStrategy,
            1,
            "strategy one_device (asked for): 1 replica.",
        ),
        (
            "mirrored",
            None,
            tf.distribute.MirroredStrategy,
            2,
            "strategy mirrored (asked for; no GPU, so 2 logical CPU devices): 2 replicas.",
        ),
        (
            "mirrored",
            4,
            tf.distribute.MirroredStrategy,
            4,
            "strategy mirrored (asked for; no GPU, so 4 logical CPU devices): 4 replicas.",
        ),
    ],
)
def test_the_strategy_is_made_and_logged_in_one_line(name, replicas, kind, count, line, caplog):
    with caplog.at_level(logging.INFO, logger="tfdist"):
        made = choose_strategy(name, replicas=replicas)
    assert type(made) is kind
    assert made.num_replicas_in_sync == count
    assert [record.getMessage() for record in caplog.records if record.name == "tfdist"] == [line]


def test_mirrored_cpu_devices_sum_over_the_replicas():
    made = choose_strategy("mirrored", replicas=3, communication="one_device")

    def replica():
        context = tf.distribute.get_replica_context()
        mine = tf.cast(context.replica_id_in_sync_group, tf.float32) + 1.0
        return context.all_reduce(tf.distribute.ReduceOp.SUM, mine)

    totals = made.experimental_local_results(tf.function(lambda: made.run(replica))())
    assert [float(total) for total in totals] == [6.0, 6.0, 6.0]


@pytest.mark.parametrize(
    ("name", "communication", "message"),
    [
        (
            "mirrored",
            "ring",
            "strategy: communication 'ring' is unknown to mirrored. Use one of nccl, hierarchical_copy, one_device.",
        ),
        (
            "one_device",
            "nccl",
            "strategy: communication is 'nccl', but one_device has no choice of communication. Leave it out.",
        ),
        ("tpu", "nccl", "strategy: communication is 'nccl', but tpu has no choice of"),
    ],
)
def test_a_communication_that_a_strategy_does_not_know_is_refused(name, communication, message):
    with pytest.raises(ValueError) as error:
        choose_strategy(name, communication=communication)
    assert message in str(error.value)


def test_multi_worker_refuses_an_unknown_communication():
    cluster = Cluster({"worker": ("127.0.0.1:1",)}, Task("worker", 0))
    with pytest.raises(ValueError) as error:
        choose_strategy("multi_worker", cluster=cluster, communication="one_device")
    assert str(error.value) == (
        "strategy: communication 'one_device' is unknown to multi_worker. Use one of auto, ring, nccl."
    )
    assert "TF_CONFIG" not in os.environ


@pytest.mark.parametrize(("gpus", "visible"), [(("2", "GPU-a"), "2,GPU-a"), ((), "")])
def test_a_tasks_share_of_gpus_is_set_before_they_are_counted(monkeypatch, gpus, visible):
    seen = []

    def logical_gpus():
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
        return ()

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "of-before")
    monkeypatch.setattr(hardware, "logical_gpus", logical_gpus)
    choose_strategy("one_device", cluster=Cluster({"worker": ("a:1",)}, Task("worker", 0), gpus=gpus))
    assert set(seen) == {visible}


def test_without_a_share_all_visible_gpus_stay(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "of-before")
    choose_strategy("one_device", cluster=Cluster({"worker": ("a:1",)}, Task("worker", 0)))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "of-before"


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_tf_config_is_none(monkeypatch, value):
    monkeypatch.setenv("TF_CONFIG", value)
    assert choose_strategy("mirrored", replicas=2).num_replicas_in_sync == 2
    assert "TF_CONFIG" not in os.environ


def test_a_wrong_cluster_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(ValueError, match="TF_CONFIG: not JSON at line 1, column 2"):
        choose_strategy()


# Everything that needs a process of its own, in one: TensorFlow takes seconds to import.
ALONE = """
import json, os
os.environ["TPU_NAME"] = "local"
import tfdist
from tfdist.strategy import hardware

def refused(name, **options):
    try:
        tfdist.choose_strategy(name, **options)
    except RuntimeError as error:
        return str(error)

not_built = refused("tpu")
after = tfdist.choose_strategy("mirrored", replicas=2).num_replicas_in_sync
late = refused("mirrored", replicas=3)
hardware.has_tpu_kernels = lambda: True
asked = refused("tpu")
kind = type(tfdist.choose_strategy()).__name__
print(json.dumps([not_built, after, late, asked, kind]))
"""


@pytest.fixture(scope="module")
def alone():
    """Returns (results, stderr) of a new process with signs of a TPU that is not there."""
    hide_gpus = {"CUDA_VISIBLE_DEVICES": ""}
    ended = run_python("-c", ALONE, environ=hide_gpus, deadline_seconds=120)
    assert ended.code == 0, ended.err
    return json.loads(ended.out.splitlines()[-1]), ended.err


def test_a_tensorflow_without_tpus_is_named_before_it_starts_so_that_the_cpu_can_still_be_split(alone):
    (not_built, after, *_), _ = alone
    assert not_built.startswith(
        "strategy: no TPU could be used, because the installed TensorFlow is not built for TPUs. Signs of a TPU here: "
        "TPU_NAME"
    )
    assert not_built.endswith(
        "On a TPU machine run: pip uninstall tensorflow; pip install 'tensorflow-tpu>=2.20' 'libtpu>=0.0.14,<0.0.22'"
    )
    assert after == 2


def test_a_tpu_that_was_asked_for_is_insisted_on(alone):
    (*_, asked, _), _ = alone
    assert "Tried TPUClusterResolver('local'), connect_to_cluster, initialize_tpu_system; " in asked
    assert "Signs of a TPU here: TPU_NAME" in asked
    assert asked.endswith("(TPU_NAME=local is the TPU of this machine), or use another strategy.")


def test_auto_goes_on_without_a_tpu_that_does_not_start_and_logs_it(alone):
    (*_, kind), err = alone
    assert kind == "OneDeviceStrategy"
    logged = [line for line in err.splitlines() if line.startswith("tfdist: ")]
    assert logged[-2].startswith("tfdist: strategy: no TPU could be used. Tried TPUClusterResolver")
    assert logged[-2].endswith("Going on without it.")
    assert logged[-1] == ("tfdist: strategy one_device (no cluster of several workers, no TPU, no GPU): 1 replica.")


def test_too_few_logical_devices_after_the_start_are_refused(alone):
    (_, _, late, *_), _ = alone
    assert late == (
        "strategy: mirrored needs 3 logical CPU devices, but TensorFlow has already started with "
        "2. Call tfdist.choose_strategy before anything else uses TensorFlow (in a notebook: "
        "restart the runtime and run that cell first)."
    )


@pytest.mark.multi_worker
def test_two_workers_make_one_strategy_with_one_chief():
    script = """
import tfdist
from tfdist.strategy.workers import Workers
made = tfdist.choose_strategy()
print(type(made).__name__, made.num_replicas_in_sync, Workers.of(made).is_chief)
"""
    hide_gpus = {"CUDA_VISIBLE_DEVICES": ""}
    ended = run_workers("-c", script, environ=hide_gpus, deadline_seconds=120)
    assert [item.code for item in ended] == [0, 0], ended[0].err + ended[1].err
    assert [item.out for item in ended] == [
        "CollectiveAllReduceStrategy 2 True\n",
        "CollectiveAllReduceStrategy 2 False\n",
    ]
    line = "tfdist: strategy multi_worker (the cluster has 2 workers): 2 replicas."
    assert all(line in item.err.splitlines() for item in ended)


def test_promise_14_a_runtime_that_started_too_early_is_reported_before_tensorflow_does():
    tf.constant(1)
    with pytest.raises(RuntimeError) as error:
        choose_strategy("multi_worker", cluster=Cluster({"worker": ("127.0.0.1:1",)}, Task("worker", 0)))
    assert str(error.value) == (
        "strategy: multi_worker has to be made before anything else starts TensorFlow's runtime, but this program has "
        "started it already, with a tensor, a variable, a model, a list of logical devices, or another strategy. Call "
        "tfdist.choose_strategy first; in a recipe, create such objects inside functions (in a notebook: restart the "
        "runtime and run that cell first)."
    )


@pytest.mark.slow
def test_promise_14_detection_does_not_start_the_runtime_and_a_second_strategy_may_follow_the_first():
    script = """
from tfdist import choose_strategy
from tfdist.internals.access import runtime
from tfdist.strategy import hardware
hardware.logical_gpus(), hardware.tpu_signs(), hardware.grow_gpu_memory()
print(runtime.has_started(), runtime.collectives_configured())
made = [choose_strategy("multi_worker").num_replicas_in_sync for _ in range(2)]
print(made, runtime.has_started(), runtime.collectives_configured())
"""
    (ended,) = run_workers("-c", script, workers=1, environ={"CUDA_VISIBLE_DEVICES": ""})
    assert ended.out == "False False\n[1, 1] True True\n", ended.err[-3000:]


@pytest.mark.multi_worker
# On the second host of two the user has chosen the number of threads.
@pytest.mark.parametrize(("hosts", "threads"), [((1, 2), (2, 0)), ((1, 1), (0, 0))])
def test_workers_of_several_hosts_with_one_core_have_a_thread_for_the_exchange(hosts, threads):
    script = """
import os
os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
import tensorflow as tf
from tensorflow.python.eager import context
from tfdist import choose_strategy
strategy = choose_strategy("multi_worker")
server = context.context()._collective_ops_server_def.default_session_config
print(tf.config.threading.get_inter_op_parallelism_threads(), server.experimental.recv_buf_max_chunk)
"""
    addresses = [f"127.0.0.{host}:{port}" for host, port in zip(hosts, free_ports(2), strict=True)]
    tasks = [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}} for index in range(2)]
    environs = [{"TF_CONFIG": json.dumps(task), "CUDA_VISIBLE_DEVICES": ""} for task in tasks]
    if hosts[1] == 2:
        environs[1]["TF_NUM_INTEROP_THREADS"] = "1"
    both = run_together([("-c", script)] * 2, environs, 120, None)
    assert [ended.out for ended in both] == [f"{number} 65536\n" for number in threads], both[0].err[-3000:]


def test_a_process_with_more_cores_keeps_its_threads(monkeypatch):
    monkeypatch.setattr(hardware, "processors", lambda: 2)
    asked = []
    monkeypatch.setattr(tf.config.threading, "set_inter_op_parallelism_threads", asked.append)
    hardware.add_thread_for_exchange()
    assert asked == []
