"""Each environment that is known gives the right cluster, or a refusal by name: never silence, never another error."""

import json
import random
import re

import pytest

from tfdist.cluster.addresses import ClusterError
from tfdist.cluster.environments import azure_batch, sagemaker
from tfdist.cluster.environments.readers import READERS, find, read_cluster
from tfdist.cluster.group import ProcessGroup

FIRST, SECOND = {"type": "worker", "index": 0}, {"type": "worker", "index": 1}
TWO = {"cluster": {"worker": ["a:2222", "b:2222"]}, "task": SECOND}
SPEC = {
    "cluster": {"workerpool0": ["p0:2222"], "workerpool1": ["p1:2222", "p2:2222"], "workerpool3": ["e:2222"]},
    "environment": "cloud",
    "task": {"type": "workerpool1", "index": 0, "trial": "1"},
}
STEP = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "1",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "n[08-09]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_JOB_END_TIME": "1790000000",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911;tcp6://[fd00::2]:51905",
    "PMIX_NAMESPACE": "1531576321",
    "PMIX_RANK": "1",
}
PRRTE = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "PRTE_LAUNCHED": "1",
    "PMIX_NAMESPACE": "prterun-host-123@1",
    "PMIX_RANK": "1",
    "PMIX_SERVER_URI41": "prterun-host-123@0.0;tcp4://10.0.0.1:40001",
}
HYDRA = {"PMI_RANK": "1", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "10.0.0.4", "MASTER_PORT": "29500", "LOCAL_RANK": "1"}
AZURE = {"AZ_BATCH_MASTER_NODE": "10.0.0.4:6000", "AZ_BATCH_HOST_LIST": "10.0.0.4,10.0.0.5"}
SAGEMAKER = {"SM_HOSTS": '["algo-2", "algo-10", "algo-1"]', "SM_CURRENT_HOST": "algo-10"}
SKYPILOT = {"SKYPILOT_NODE_RANK": "1", "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2\n", "SKYPILOT_NUM_NODES": "2"}
VOLCANO = {"VC_TASK_INDEX": "1", "VC_WORKER_HOSTS": "j-worker-0.j,j-worker-1.j", "VC_WORKER_NUM": "2"}
LOCAL = {"OMPI_COMM_WORLD_LOCAL_SIZE": "4", "MPI_LOCALNRANKS": "4", "LOCAL_WORLD_SIZE": "4"}
PORT = {"TFDIST_PORT": "9000"}

# Name → environment, variable by which it is found, addresses or hosts of the workers, rank of this one.
CLUSTERS = {
    "TF_CONFIG": ({"TF_CONFIG": json.dumps(TWO)}, "TF_CONFIG", "a:2222 b:2222", 1),
    "TFJob": ({"TF_CONFIG": json.dumps(TWO | {"environment": "cloud"})}, "TF_CONFIG", "a:2222 b:2222", 1),
    "old AI Platform": (
        {"TF_CONFIG": json.dumps({"cluster": {"master": ["m:1"], "worker": ["a:1"]}, "task": SECOND | {"index": 0}})},
        *("TF_CONFIG", "m:1 a:1", 1),
    ),
    "Indexed Job": (
        {"JOB_COMPLETION_INDEX": "1", "TFDIST_WORKERS": "t-{0..1}.t:2222", "KUBERNETES_SERVICE_HOST": "10.0.0.1"},
        *("TFDIST_WORKERS", "t-0.t:2222 t-1.t:2222", 1),
    ),
    "JobSet": (
        {"JOB_COMPLETION_INDEX": "0", "TFDIST_WORKERS": "s-node-0-{0..1}.s:2222"},
        *("TFDIST_WORKERS", "s-node-0-0.s:2222 s-node-0-1.s:2222", 0),
    ),
    "Slurm": (STEP | PORT, "SLURM_JOB_ID", "n08:9000 n08:9001 n09:9000 n09:9001", 2),
    # The variables of PMI are those of the step itself.
    "srun --mpi=pmi2": (
        STEP | PORT | {"PMI_RANK": "2", "PMI_SIZE": "4"},
        "SLURM_JOB_ID",
        "n08:9000 n08:9001 n09:9000 n09:9001",
        2,
    ),
    "srun --mpi=pmix": (STEP | PORT | {"PMIX_RANK": "2"}, "SLURM_JOB_ID", "n08:9000 n08:9001 n09:9000 n09:9001", 2),
    "exported for PyTorch": (
        STEP | PORT | {"WORLD_SIZE": "4", "MASTER_ADDR": "n08"},
        *("SLURM_JOB_ID", "n08:9000 n08:9001 n09:9000 n09:9001", 2),
    ),
    "Open MPI, one host": (OPEN_MPI | LOCAL | PORT, "OMPI_COMM_WORLD_SIZE", "127.0.0.1:9001-9004", 1),
    "PRRTE, one host": (PRRTE | LOCAL | PORT, "OMPI_COMM_WORLD_SIZE", "127.0.0.1:9001-9004", 1),
    "Hydra, one host": (HYDRA | LOCAL | PORT, "PMI_SIZE", "127.0.0.1:9001-9004", 1),
    "torchrun, one host": (TORCHRUN | LOCAL | PORT, "WORLD_SIZE", "127.0.0.1:9001-9004", 3),
    "SageMaker": (SAGEMAKER | PORT, "SM_HOSTS", "algo-1:9000 algo-10:9000 algo-2:9000", 1),
    "Vertex": ({"CLUSTER_SPEC": json.dumps(SPEC)}, "CLUSTER_SPEC", "p0:2222 p1:2222 p2:2222", 1),
    "Azure Batch": (AZURE | PORT, "AZ_BATCH_HOST_LIST", "10.0.0.4:9000 10.0.0.5:9000", 1),
    "Azure Batch's nodes": (
        {"AZ_BATCH_NODE_LIST": "10.0.0.4;10.0.0.5"} | PORT,
        *("AZ_BATCH_NODE_LIST", "10.0.0.4:9000 10.0.0.5:9000", 1),
    ),
    "SkyPilot": (SKYPILOT | PORT, "SKYPILOT_NODE_IPS", "10.0.0.1:9000 10.0.0.2:9000", 1),
    "Volcano": (VOLCANO | PORT, "VC_WORKER_HOSTS", "j-worker-0.j:9000 j-worker-1.j:9000", 1),
}
# Name → environment, source, the meeting point, rank and size.
GROUPS = {
    "Open MPI 4": (OPEN_MPI | PORT, "Open MPI", "10.96.0.1:9000", 1, 4),
    # The step is that of mpirun's daemons.
    "Open MPI within Slurm": (STEP | OPEN_MPI | PORT, "Open MPI", "10.96.0.1:9000", 1, 4),
    "PRRTE": (PRRTE | PORT | {"TFDIST_COORDINATOR": "h0"}, "Open MPI", "h0:9000", 1, 4),
    "PRRTE within Slurm": (STEP | PRRTE | {"TFDIST_COORDINATOR": "h0:7000"}, "Open MPI", "h0:7000", 1, 4),
    "Hydra": (HYDRA | PORT | {"TFDIST_COORDINATOR": "h0"}, "MPI (Hydra)", "h0:9000", 1, 4),
    "Hydra within Slurm": (STEP | HYDRA | PORT | {"TFDIST_COORDINATOR": "h0"}, "MPI (Hydra)", "h0:9000", 1, 4),
    "Azure ML mpi, Open MPI": (AZURE | OPEN_MPI | PORT, "Open MPI", "10.96.0.1:9000", 1, 4),
    "Azure ML mpi, Intel MPI": (AZURE | HYDRA | PORT, "MPI (Hydra)", "10.0.0.4:9000", 1, 4),
    "Azure ML pytorch": (AZURE | TORCHRUN | PORT | {"NODE_RANK": "1"}, "torchrun", "10.0.0.4:9000", 3, 4),
    "torchrun within Slurm": (
        STEP | TORCHRUN | PORT | {"TORCHELASTIC_RUN_ID": "none"},
        *("torchrun", "10.0.0.4:9000", 3, 4),
    ),
    "mpirun of SageMaker": (SAGEMAKER | OPEN_MPI | PORT, "Open MPI", "10.96.0.1:9000", 1, 4),
    "LeaderWorkerSet, by tfdist's variables": (
        {"LWS_GROUP_SIZE": "4", "TFDIST_RANK": "1", "TFDIST_SIZE": "4", "TFDIST_COORDINATOR": "lead:9000"},
        *("TFDIST_SIZE", "lead:9000", 1, 4),
    ),
}
# Name → environment, beginning of the message, what it tells to set.
REFUSED = {
    "TFJob, dynamic": (
        {"TF_CONFIG": json.dumps({"cluster": {"worker": {"1": "w-1:2222"}, "ps": []}, "task": SECOND})},
        *("TF_CONFIG: cluster.worker is an object", "Set enableDynamicWorker: false"),
    ),
    "SageMaker's parameter servers": (
        {"TF_CONFIG": json.dumps({"cluster": {"master": ["a:1"], "ps": ["a:2"]}, "task": FIRST})},
        *("TF_CONFIG: cluster lists parameter servers", "Remove cluster.ps"),
    ),
    "evaluator": (
        {"CLUSTER_SPEC": json.dumps(SPEC | {"task": {"type": "workerpool3", "index": 0}})},
        *('CLUSTER_SPEC: task.type is "evaluator"', "evaluate in a process without TF_CONFIG"),
    ),
    "PRRTE": (PRRTE, "Open MPI: OMPI_COMM_WORLD_SIZE is 4", "Set TFDIST_COORDINATOR"),
    "Hydra": (HYDRA, "MPI (Hydra): PMI_SIZE is 4", "Set TFDIST_COORDINATOR"),
    "MVAPICH2": ({"MV2_COMM_WORLD_RANK": "1", "MV2_COMM_WORLD_SIZE": "2"}, "MV2_", "TFDIST_RANK=$MV2_COMM_WORLD_RANK"),
    "LSF, jsrun": (
        {"LSB_JOBID": "1", "JSM_NAMESPACE_RANK": "0", "JSM_NAMESPACE_SIZE": "2"},
        *("JSM_NAMESPACE_SIZE", "TFDIST_RANK=$JSM_NAMESPACE_RANK"),
    ),
    "LSF, blaunch": ({"LSB_JOBID": "1", "LSB_HOSTS": "a a b b", "LSF_PM_TASKID": "1"}, "LSB_HOSTS", "with mpirun"),
    "PBS": ({"PBS_JOBID": "12.srv", "PBS_NODENUM": "0", "PBS_TASKNUM": "1"}, "PBS_NODENUM", "with mpirun"),
    "Indexed Job": ({"JOB_COMPLETION_INDEX": "1"}, "JOB_COMPLETION_INDEX", "Set TFDIST_WORKERS"),
    "Trainer v2, torch": ({"PET_NNODES": "2", "PET_NODE_RANK": "1"}, "PET_NNODES", "TFDIST_RANK=$PET_NODE_RANK"),
    "Trainer v2, jax": ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}, "JAX_", "TFDIST_RANK=$JAX_PROCESS_ID"),
    "LeaderWorkerSet": ({"LWS_GROUP_SIZE": "2", "LWS_WORKER_INDEX": "1"}, "LWS_GROUP_SIZE", "$LWS_LEADER_ADDRESS"),
    "Volcano, two tasks": (
        VOLCANO | {"VC_PS_HOSTS": "p"},
        "VC_WORKER_HOSTS: the job has another",
        "plug-in tensorflow",
    ),
    "another container": (SAGEMAKER | {"SM_CURRENT_HOST": "x"}, 'SM_HOSTS: this host is "x"', "Set SM_CURRENT_HOST"),
    "SkyPilot, no rank": (
        {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2"},
        *("SKYPILOT_NODE_IPS: it lists 2 hosts", "or set TF_CONFIG"),
    ),
    "no pools": ({"CLUSTER_SPEC": '{"worker": ["a:1"]}'}, 'CLUSTER_SPEC: its "cluster" is null', "or set TF_CONFIG"),
    "names for addresses": ({"AZ_BATCH_HOST_LIST": "a,b"}, "AZ_BATCH_HOST_LIST: ", 'as in "10.0.0.4,10.0.0.5"'),
    "elsewhere": ({"AZ_BATCH_HOST_LIST": "10.0.0.6,10.0.0.7"}, "AZ_BATCH_HOST_LIST: none", "set TF_CONFIG"),
}


@pytest.fixture(autouse=True)
def _azure_node(monkeypatch):
    monkeypatch.setattr(azure_batch, "is_own", lambda addresses: list(addresses) == ["10.0.0.5"])


def spell(addresses):
    ports = re.fullmatch(r"([0-9.]+):([0-9]+)-([0-9]+)", addresses)
    if ports is None:
        return tuple(addresses.split())
    return tuple(f"{ports[1]}:{port}" for port in range(int(ports[2]), int(ports[3]) + 1))


@pytest.mark.parametrize("name", CLUSTERS)
def test_promise_50_an_environment_with_all_addresses_gives_its_cluster(name):
    environ, variable, addresses, rank = CLUSTERS[name]
    cluster = read_cluster(environ)
    assert (find(environ).variable, cluster.workers, cluster.rank) == (variable, spell(addresses), rank)
    # What TensorFlow is told is read in the same way.
    again = read_cluster({"TF_CONFIG": cluster.to_tf_config()})
    assert (again.workers, again.rank) == (cluster.workers, rank)


@pytest.mark.parametrize("name", GROUPS)
def test_promise_50_processes_on_several_hosts_know_where_to_exchange_their_addresses(name):
    environ, source, meeting_point, rank, size = GROUPS[name]
    group = find(environ).members
    assert isinstance(group, ProcessGroup) and not group.is_local
    assert (group.source, group.meeting_point, group.rank, group.size) == (source, meeting_point, rank, size)
    with pytest.raises(ClusterError, match=r"4 processes are started on several hosts, whose addresses are not known"):
        read_cluster(environ)


@pytest.mark.parametrize("name", REFUSED)
def test_promise_50_an_environment_that_is_not_read_is_refused_by_name(name):
    environ, beginning, cure = REFUSED[name]
    with pytest.raises(ClusterError) as error:
        read_cluster(environ)
    assert str(error.value).startswith(beginning) and cure in str(error.value)


def test_sagemakers_file_is_read_without_its_toolkit(tmp_path, monkeypatch):
    path = tmp_path / "resourceconfig.json"
    path.write_text('{"current_host": "algo-2", "hosts": ["algo-1", "algo-2"], "network_interface_name": "eth0"}')
    monkeypatch.setattr(sagemaker, "RESOURCES", str(path))
    assert read_cluster(PORT).workers == ("algo-1:9000", "algo-2:9000")
    assert (find({}).variable, read_cluster({}).rank) == (str(path), 1)
    path.write_text("[]")
    with pytest.raises(ClusterError, match=r"SageMaker's .*: the hosts are null. Write a list of names"):
        read_cluster({})


def test_every_reader_has_a_row_here():
    tried = [row[0] for table in (CLUSTERS, GROUPS, REFUSED) for row in table.values()]
    assert [reader.__name__ for reader in READERS if not any(map(reader.detect, tried))] == []


def damage(dice, environ):
    """Returns an environment with one or two variables removed, cut, mixed up or mistyped."""
    damaged = dict(environ)
    for _ in range(dice.randint(1, 2)):
        name = dice.choice(sorted(environ))
        text = environ[name]
        at = dice.randrange(len(text) + 1)
        damaged[name] = dice.choice(
            [
                "",
                text[:at],
                text[:at] + dice.choice('{}[]",:;-@ 0a\n²\ud800') + text[at + dice.randint(0, 1) :],
                dice.choice(list(environ.values())),
                str(dice.choice([-1, 0, 1, 2, 5, 10**12])),
            ]
        )
        if dice.random() < 0.2:
            del damaged[name]
    return damaged


@pytest.mark.parametrize("name", [*CLUSTERS, *GROUPS, *REFUSED])
def test_promise_50_a_damaged_environment_is_read_or_refused_and_never_another_error(name):
    environ = next(table[name][0] for table in (CLUSTERS, GROUPS, REFUSED) if name in table)
    dice = random.Random(name)
    for _ in range(60):
        damaged = damage(dice, environ)
        try:
            members = find(damaged).members
            cluster = None if isinstance(members, ProcessGroup) else read_cluster(damaged)
        except ClusterError as error:
            assert ". " in str(error), damaged
            str(error).encode("ascii")
        else:
            assert cluster is None or cluster.workers[cluster.rank] == cluster.address, damaged
