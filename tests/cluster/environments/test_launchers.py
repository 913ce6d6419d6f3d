"""A launcher's variables tell of several processes, and one process is no reason to stop."""

import pytest

from tfdist.cluster.alone import check_sole
from tfdist.cluster.environments.launchers import find_sign

SPEC = '{"cluster": {"workerpool0": ["a:2222"], "workerpool1": ["b:2222"]}, "task": {"type": "workerpool1"}}'
SEVERAL = [
    {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"},
    {"PMI_SIZE": "4", "PMI_RANK": "1"},
    {"PMIX_RANK": "1", "PMIX_NAMESPACE": "prterun-host-123@1"},
    {"PMIX_RANK": "0"},
    {"MV2_COMM_WORLD_SIZE": "2"},
    {"JSM_NAMESPACE_SIZE": "2"},
    {"WORLD_SIZE": "2", "RANK": "0"},
    {"PET_NNODES": "2"},
    {"JAX_NUM_PROCESSES": "2"},
    {"LWS_GROUP_SIZE": "3"},
    {"JOB_COMPLETION_INDEX": "0"},
    {"JOB_COMPLETION_INDEX": "3", "WORLD_SIZE": "1"},
    {"SM_HOSTS": '["algo-1", "algo-2"]'},
    {"CLUSTER_SPEC": SPEC},
    {"CLUSTER_SPEC": '{"worker": ["a:1", "b:1"]}'},
    {"SKYPILOT_NUM_NODES": "2"},
    {"VC_WORKER_HOSTS": "a,b"},
    {"AZ_BATCH_HOST_LIST": "10.0.0.4,10.0.0.5"},
    {"AZ_BATCH_NODE_LIST": "10.0.0.4;10.0.0.5"},
]
ONE = [
    {},
    {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0", "PMIX_RANK": "0"},
    {"WORLD_SIZE": "1"},
    {"PMI_SIZE": "1", "PMI_RANK": "0"},
    {"SLURM_STEP_NUM_TASKS": "1", "PMIX_RANK": "0"},
    {"SM_HOSTS": '["algo-1"]'},
    {"CLUSTER_SPEC": '{"cluster": {"workerpool0": ["a:2222"]}}'},
    {"SKYPILOT_NUM_NODES": "1", "SKYPILOT_NODE_IPS": "10.0.0.1"},
    {"AZ_BATCH_HOST_LIST": "10.0.0.4"},
    # What is not understood tells nothing.
    {"WORLD_SIZE": "many"},
    {"CLUSTER_SPEC": "{"},
    {"SM_HOSTS": "7"},
    {"OMPI_COMM_WORLD_SIZE": ""},
    # An explicit "no cluster".
    {"OMPI_COMM_WORLD_SIZE": "4", "TF_CONFIG": "{}"},
]


@pytest.mark.parametrize("environ", SEVERAL, ids=str)
def test_several_processes_without_a_cluster_are_refused_by_the_variables_name(environ):
    with pytest.raises(ValueError) as error:
        check_sole(environ)
    assert str(error.value).startswith(tuple(f"{name} is '{value[:60]}" for name, value in environ.items()))
    assert "use --alone, or choose_strategy(alone=True)." in str(error.value)


@pytest.mark.parametrize("environ", ONE, ids=str)
def test_one_process_is_no_reason_to_stop(environ):
    check_sole(environ)


def test_the_number_of_processes_is_read_where_it_is_there():
    assert [find_sign(environ).processes for environ in SEVERAL[:3]] == [4, 4, None]
    assert find_sign({"CLUSTER_SPEC": SPEC}).processes == 2
