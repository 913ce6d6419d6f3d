"""What the environment tells is enough, but for processes on several hosts; tests/cluster/rendezvous has those."""

from tfdist.cluster.environments.readers import read_cluster
from tfdist.cluster.joining import join_cluster


def test_where_all_addresses_are_known_no_process_waits_for_another():
    environ = {"TFDIST_WORKERS": "w-{0..3}.w:2222", "TFDIST_RANK": "2"}
    assert join_cluster(environ, timeout_seconds=0) == read_cluster(environ)
    local = {"PMI_SIZE": "2", "PMI_RANK": "1", "MPI_LOCALNRANKS": "2"}
    assert join_cluster(local, timeout_seconds=0) == read_cluster(local)
    assert join_cluster({}, timeout_seconds=0) is None


def test_an_allocation_without_a_step_is_warned_of_once(caplog):
    assert join_cluster({"SLURM_JOB_ID": "12", "SLURM_NTASKS": "4"}, timeout_seconds=0) is None
    assert len(caplog.records) == 1
