"""Which strategy is chosen, why, and what is logged about it."""

import json
import logging
import os

import pytest
import tensorflow as tf
from support.processes import run_python, run_together, run_workers

from tfdist.cluster.ports import free_ports
from tfdist.cluster.tf_config import Cluster, Task
from tfdist.strategy import choose as strategy
from tfdist.strategy import hardware
from tfdist.strategy.choose import StrategyChoice, choose_strategy, decide

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("cpus")]


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch):
    """Makes every machine one without GPU, TPU or cluster."""
    monkeypatch.setattr(hardware, "gpu_count", lambda: 0)
    monkeypatch.setattr(hardware, "tpu_signs", list)
    for name in list(os.environ):
        if name == "TF_CONFIG" or name.startswith("SLURM_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "facts", "choice"),
    [
        ("auto", {}, StrategyChoice("one_device", 1, "no cluster of several workers, no TPU, no GPU")),
        (
            "auto",
            {"workers": 1, "gpus": 1},
            StrategyChoice("one_device", 1, "no cluster of several workers, no TPU, one GPU"),
        ),
        (
            "auto",
            {"replicas": 1},
            StrategyChoice("one_device", 1, "no cluster of several workers, no TPU, no GPU"),
        ),
        ("auto", {"gpus": 4}, StrategyChoice("mirrored", 4, "4 GPUs")),
        ("auto", {"gpus": 4, "replicas": 2}, StrategyChoice("mirrored", 2, "asked for; 4 GPU(s)")),
        ("auto", {"gpus": 4, "replicas": 1}, StrategyChoice("mirrored", 1, "asked for; 4 GPU(s)")),
        (
            "auto",
            {"replicas": 3},
            StrategyChoice("mirrored", 3, "asked for; no GPU, so 3 logical CPU devices"),
        ),
        (
            "auto",
            {"gpus": 8, "tpu_signs": ["TPU_NAME", "/dev/accel0"]},
            StrategyChoice("tpu", None, "signs of a TPU: TPU_NAME, /dev/accel0"),
        ),
        (
            "auto",
            {"workers": 2, "gpus": 8, "tpu_signs": ["TPU_NAME"]},
            StrategyChoice("multi_worker", None, "the cluster has 2 workers"),
        ),
        ("one_device", {"workers": 3, "gpus": 2}, StrategyChoice("one_device", 1, "asked for")),
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
        ("mirrored", {"gpus": 1}, StrategyChoice("mirrored", 1, "asked for; 1 GPU(s)")),
        ("mirrored", {"gpus": 4, "replicas": 3}, StrategyChoice("mirrored", 3, "asked for; 4 GPU(s)")),
        (
            "multi_worker",
            {"workers": 1},
            StrategyChoice("multi_worker", None, "asked for; the cluster has 1 worker(s)"),
        ),
        ("tpu", {}, StrategyChoice("tpu", None, "asked for")),
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
        ("auto", {"replicas": 0}, "strategy: replicas is 0. Use a whole number from 1."),
        (
            "multi_worker",
            {},
            "strategy: multi_worker needs a cluster, and there is none in the environment. "
            "Set TF_CONFIG on each host, or start the job with srun.",
        ),
        (
            "mirrored",
            {"gpus": 2, "replicas": 3},
            "strategy: mirrored over 3 replicas needs as many GPUs, but this machine has 2 GPU(s). "
            "Use replicas=2 or fewer.",
        ),
        (
            "auto",
            {"gpus": 2, "replicas": 3},
            "strategy: mirrored over 3 replicas needs as many GPUs, but this machine has 2 GPU(s).",
        ),
        (
            "auto",
            {"gpus": 1, "replicas": 2},
            "strategy: mirrored over 2 replicas needs as many GPUs, but this machine has 1 GPU(s).",
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
    ],
)
def test_requests_that_cannot_be_met_are_refused(name, facts, message):
    with pytest.raises(ValueError) as error:
        decide(name, **facts)
    assert message in str(error.value)


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

    def gpu_count():
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
        return 0

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "of-before")
    monkeypatch.setattr(hardware, "gpu_count", gpu_count)
    choose_strategy("one_device", cluster=Cluster({"worker": ("a:1",)}, Task("worker", 0), gpus=gpus))
    assert set(seen) == {visible}


def test_without_a_share_all_visible_gpus_stay(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "of-before")
    choose_strategy("one_device", cluster=Cluster({"worker": ("a:1",)}, Task("worker", 0)))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "of-before"


def test_a_wrong_cluster_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(ValueError, match="TF_CONFIG: not JSON at line 1, column 2"):
        choose_strategy()


# Everything that needs a process of its own, in one: TensorFlow takes seconds to import.
ALONE = """
import json, os
os.environ["TPU_NAME"] = "of-an-example"
import tfdist
tpu = tfdist.choose_strategy()
try:
    tfdist.choose_strategy("tpu")
except RuntimeError as error:
    asked = str(error)
try:
    tfdist.choose_strategy("mirrored", replicas=3)
except RuntimeError as error:
    late = str(error)
print(json.dumps([type(tpu).__name__, asked, late]))
"""


@pytest.fixture(scope="module")
def alone():
    """Returns (results, stderr) of a new process with signs of a TPU that is not there."""
    hide_gpus = {"CUDA_VISIBLE_DEVICES": ""}
    ended = run_python("-c", ALONE, environ=hide_gpus, deadline_seconds=120)
    assert ended.code == 0, ended.err
    return json.loads(ended.out.splitlines()[-1]), ended.err


def test_auto_goes_on_without_a_tpu_that_does_not_start_and_logs_it(alone):
    (kind, *_), err = alone
    assert kind == "OneDeviceStrategy"
    logged = [line for line in err.splitlines() if line.startswith("tfdist: ")]
    assert logged[0].startswith("tfdist: strategy: no TPU could be used. Tried TPUClusterResolver")
    assert logged[0].endswith("Going on without it.")
    assert logged[1] == ("tfdist: strategy one_device (no cluster of several workers, no TPU, no GPU): 1 replica.")


def test_a_tpu_that_was_asked_for_is_insisted_on(alone):
    (_, asked, _), _ = alone
    assert "Tried TPUClusterResolver('local'), connect_to_cluster, initialize_tpu_system; " in asked
    assert "Signs of a TPU here: TPU_NAME" in asked
    assert asked.endswith("Install tensorflow-tpu on a TPU machine, or use another strategy.")


def test_too_few_logical_devices_after_the_start_are_refused(alone):
    (*_, late), _ = alone
    assert late == (
        "strategy: mirrored needs 3 logical CPU devices, but TensorFlow has already started with "
        "1. Call tfdist.choose_strategy before anything else uses TensorFlow (in a notebook: "
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
hardware.gpu_count(), hardware.tpu_signs(), hardware.grow_gpu_memory()
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


def test_the_names_are_those_of_the_config():
    assert {decide(name, workers=2).name for name in strategy.STRATEGIES} == {*strategy.STRATEGIES} - {"auto"}
