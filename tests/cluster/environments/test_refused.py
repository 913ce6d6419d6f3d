"""A launcher's variables tell of several processes, and one process is no reason to stop."""

import pytest

from tfdist.cluster.addresses import ClusterError
from tfdist.cluster.environments.readers import read_cluster
from tfdist.cluster.environments.refused import find_sign

SEVERAL = [
    ({"PMIX_RANK": "1", "PMIX_NAMESPACE": "prterun-host-123@1"}, "set TFDIST_RANK=$PMIX_RANK"),
    ({"PMIX_RANK": "0"}, "set TFDIST_RANK=$PMIX_RANK"),
    ({"PMI_RANK": "1"}, "set TFDIST_RANK=$PMIX_RANK (or $PMI_RANK)"),
    ({"MV2_COMM_WORLD_SIZE": "2"}, "set TFDIST_RANK=$MV2_COMM_WORLD_RANK, TFDIST_SIZE=$MV2_COMM_WORLD_SIZE and"),
    ({"JSM_NAMESPACE_SIZE": "2"}, "set TFDIST_RANK=$JSM_NAMESPACE_RANK"),
    ({"LSB_HOSTS": "a a b b"}, "LSF has reserved several hosts: start one process for each worker with mpirun"),
    ({"LSF_PM_TASKID": "2", "LSB_HOSTS": "a a"}, "Start the processes of this LSF job with mpirun"),
    ({"PBS_NODENUM": "1"}, "PBS has reserved several hosts: start one process for each worker with mpirun"),
    ({"PET_NNODES": "2"}, "set TFDIST_RANK=$PET_NODE_RANK, TFDIST_SIZE=$PET_NNODES and"),
    ({"JAX_NUM_PROCESSES": "2"}, "set TFDIST_RANK=$JAX_PROCESS_ID"),
    ({"LWS_GROUP_SIZE": "3"}, "TFDIST_COORDINATOR=$LWS_LEADER_ADDRESS (the host of process 0)"),
    ({"JOB_COMPLETION_INDEX": "0"}, "Set TFDIST_WORKERS to the names of all pods, as in 'train-{0..3}.train:2222'"),
    ({"JOB_COMPLETION_INDEX": "3", "WORLD_SIZE": "1"}, "Set TFDIST_WORKERS to the names of all pods"),
    ({"SKYPILOT_NUM_NODES": "2"}, "Let SkyPilot pass on SKYPILOT_NODE_IPS"),
    ({"VC_WORKER_NUM": "2"}, "Use Volcano's plug-ins svc and env"),
    ({"SLURM_STEP_NUM_TASKS": "2"}, "set TFDIST_RANK=its number, TFDIST_SIZE=N and TFDIST_COORDINATOR=HOST"),
]
ONE = [
    {},
    {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0", "PMIX_RANK": "0"},
    {"WORLD_SIZE": "1"},
    {"PMI_SIZE": "1", "PMI_RANK": "0"},
    {"SLURM_STEP_NUM_TASKS": "1", "PMIX_RANK": "0"},
    {"SM_HOSTS": '["algo-1"]'},
    {"CLUSTER_SPEC": '{"cluster": {"workerpool0": ["a:2222"]}, "task": {"type": "workerpool0", "index": 0}}'},
    {"SKYPILOT_NUM_NODES": "1", "SKYPILOT_NODE_IPS": "10.0.0.1"},
    {"AZ_BATCH_HOST_LIST": "10.0.0.4"},
    {"LSB_HOSTS": "a a a a", "LSF_PM_TASKID": "1"},
    {"PBS_NODENUM": "0", "PBS_NODEFILE": "/none", "WORLD_SIZE": "1"},
    # What is not understood tells nothing.
    {"LWS_GROUP_SIZE": "many"},
    {"OMPI_COMM_WORLD_SIZE": ""},
    # An explicit "no cluster".
    {"MV2_COMM_WORLD_SIZE": "4", "TF_CONFIG": "{}"},
]


@pytest.mark.parametrize(("environ", "cure"), SEVERAL, ids=str)
def test_promise_50_several_processes_without_a_cluster_are_refused_with_what_to_set(environ, cure):
    with pytest.raises(ClusterError) as error:
        read_cluster(environ)
    message = str(error.value)
    name = next(iter(environ))
    assert message.startswith(f"{name} is '{environ[name]}', which tells of ")
    assert cure in message and message.endswith("use --alone, or choose_strategy(alone=True).")


@pytest.mark.parametrize("environ", ONE, ids=str)
def test_one_process_is_no_reason_to_stop(environ):
    assert read_cluster(environ) is None


def test_the_number_of_processes_is_told_where_it_is_known():
    assert find_sign({"LWS_GROUP_SIZE": "3", "LWS_WORKER_INDEX": "1"}).processes == 3
    assert find_sign({"LSB_HOSTS": "a a b b"}).processes == 2
    assert find_sign({"PMIX_RANK": "1"}).processes is None


def test_the_nodes_of_a_pbs_job_are_counted_in_its_file(tmp_path):
    (tmp_path / "12.srv").write_text("a\na\nb\n")
    environ = {"PBS_NODEFILE": str(tmp_path / "12.srv"), "PBS_NODENUM": "0"}
    assert find_sign(environ) == ("PBS_NODEFILE", str(tmp_path / "12.srv"), 2)
    (tmp_path / "12.srv").write_text("a\na\n")
    assert find_sign(environ) is None


def test_a_long_value_is_shortened():
    with pytest.raises(ClusterError) as error:
        read_cluster({"LSB_HOSTS": " ".join(f"host{index}" for index in range(1000))})
    assert str(error.value).startswith("LSB_HOSTS is 'host0 host1 ")
    assert "'..., which tells of 1000 processes, but" in str(error.value) and len(str(error.value)) < 500
