"""Real launchers start two processes, which train together to the weights of two workers by TF_CONFIG."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from support.processes import REPOSITORY, run_workers

from benchmarks import networks

SCRIPT = """
import hashlib, json, os

import keras
import numpy as np

import tfdist

strategy = tfdist.choose_strategy()
with strategy.scope():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(5, "softmax")])
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
x = np.random.default_rng(0).normal(size=(100, 20))
tfdist.fit(model, x, x[:, :5].argmax(axis=1), batch_size=32, epochs=2, run_dir="run", exchange="all_reduce", verbose=0)
if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 0:
    digest = hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()
    open("run/summary.json", "w").write(json.dumps({"weights_sha256": digest}))
"""
TRAIN = ("-m", "tfdist.train", "--strategy=multi_worker", "--deterministic", "--steps=6", "--run_dir=run")
STARTS = {
    "open_mpi": (("mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", "2"), TRAIN),
    "mpich": (("mpiexec.hydra", "-n", "2"), ("mine.py",)),
}

JOIN = """
import json, os

from tfdist.cluster.joining import join_cluster
from tfdist.cluster.rendezvous import meet

cluster = join_cluster(os.environ, timeout_seconds=60)
announced = meet(cluster, {"a": 1}, announcement={"by": cluster.rank}, timeout_seconds=60)
print(json.dumps([cluster.rank, cluster.workers, announced]))
"""

pytestmark = [pytest.mark.slow, pytest.mark.multi_worker]


def digest(folder):
    return json.loads((folder / "run" / "summary.json").read_text())["weights_sha256"]


@pytest.mark.parametrize("name", ["open_mpi", pytest.param("mpich", marks=pytest.mark.full)])
def test_promise_50_two_processes_of_a_launcher_train_as_two_workers_by_tf_config(name, tmp_path):
    launcher, command = STARTS[name]
    if shutil.which(launcher[0]) is None:
        pytest.skip(f"{launcher[0]} is not installed")
    environ = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"}
    folders = [tmp_path / "launched", tmp_path / "by_tf_config"]
    for folder in folders:
        folder.mkdir()
        (folder / "mine.py").write_text(SCRIPT)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("TF_CONFIG", "OMPI_", "PMI"))}
    launched = subprocess.run(
        ["timeout", "--signal=KILL", "240", *launcher, sys.executable, *command],
        env=clean | environ | {"PYTHONPATH": str(REPOSITORY)},
        cwd=folders[0],
        capture_output=True,
        text=True,
        check=False,
    )
    assert launched.returncode == 0, launched.stdout + launched.stderr[-3000:]
    assert "strategy multi_worker" in launched.stderr
    for ended in run_workers(*command, environ=environ, deadline_seconds=240, folder=folders[1]):
        assert ended.code == 0, ended.err[-3000:]
    assert digest(folders[0]) == digest(folders[1])


@pytest.mark.skipif(networks.missing() is not None, reason=f"{networks.missing()}")
def test_processes_of_open_mpi_on_two_hosts_tell_each_other_where_they_are():
    # What `mpirun --map-by node` of three processes on two hosts sets; the namespaces stand for the hosts.
    hosts = (0, 1, 0)
    shared = {"OMPI_COMM_WORLD_SIZE": "3", "PYTHONPATH": str(REPOSITORY), "TFDIST_PORT": "15000"}
    with networks.make(2, "1gbit") as places:
        shared["OMPI_MCA_orte_hnp_uri"] = f"1.0;tcp://{places[0].host}:4444"
        processes = [
            subprocess.Popen(
                ["timeout", "--signal=KILL", "100", *places[host].prefix, sys.executable, "-c", JOIN],
                env=os.environ | shared | {"OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_LOCAL_SIZE": "2"},
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank, host in enumerate(hosts)
        ]
        told = [json.loads(process.communicate()[0]) for process in processes]
    first, second = (place.host for place in places)
    workers = [f"{first}:15001", f"{second}:15001", f"{first}:15002"]
    assert told == [[rank, workers, {"by": 0}] for rank in range(3)]
