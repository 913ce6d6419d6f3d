"""Numbered processes on several hosts learn each other's addresses from process 0."""

import concurrent.futures
import re

import pytest

from tfdist.cluster.addresses import ClusterError
from tfdist.cluster.group import ProcessGroup
from tfdist.cluster.joining import join_cluster
from tfdist.cluster.ports import free_ports
from tfdist.cluster.rendezvous import RendezvousError, door, exchange, guest, host, meet
from tfdist.cluster.rendezvous.exchange import exchange_addresses, list_hosts


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(host, "FAREWELL_SECONDS", 0.3)
    monkeypatch.setattr(guest, "FAREWELL_SECONDS", 0.3)
    monkeypatch.setattr(door, "PATIENCE_SECONDS", 0.1)


def at_once(function, ranks):
    """Calls a function with each rank in a thread of its own; returns the results or errors by rank."""
    with concurrent.futures.ThreadPoolExecutor(len(ranks)) as threads:
        calls = [threads.submit(function, rank) for rank in ranks]
        return [call.exception(timeout=30) or call.result() for call in calls]


def test_all_processes_get_the_list_and_meet_there():
    # The ports after that of the exchange are those of the workers.
    (port,) = free_ports(1)
    environ = {"TFDIST_COORDINATOR": f"127.0.0.1:{port}", "TFDIST_SIZE": "3"}

    def start(rank):
        cluster = join_cluster(environ | {"TFDIST_RANK": str(rank)}, timeout_seconds=10)
        # At once, while process 0 may still be sending the list to others.
        return cluster, meet(cluster, {"a": 1}, announcement={"by": rank}, timeout_seconds=10, environ={})

    answers = at_once(start, [2, 1, 0])
    assert [announced for _, announced in answers] == [{"by": 0}] * 3
    assert [cluster.rank for cluster, _ in answers] == [2, 1, 0]
    expected = tuple(f"127.0.0.1:{port + place}" for place in (1, 2, 3))
    assert {cluster.workers for cluster, _ in answers} == {expected}


def test_an_absent_process_is_named_to_all():
    (port,) = free_ports(1)

    def start(rank):
        return exchange_addresses(ProcessGroup("Launcher", rank, 3, "127.0.0.1", port), timeout_seconds=1, environ={})

    for error in at_once(start, [0, 2]):
        assert isinstance(error, RendezvousError)
        assert re.search(r"1 of 3 workers missing .* worker 1 \(address not known yet\)", str(error))


def test_a_coordinator_on_another_host_is_refused_by_process_0_at_once():
    # An address reserved for documentation: no machine has it.
    with pytest.raises(ClusterError, match=r"would look for it at 192.0.2.1, which is another host. Set TFDIST_COORD"):
        exchange_addresses(ProcessGroup("Launcher", 0, 2, "192.0.2.1", 500), timeout_seconds=60, environ={})


def test_a_coordinator_without_an_address_is_refused(monkeypatch):
    def look_up(*_):
        raise OSError("the name h0 is unknown here (no such name)")

    monkeypatch.setattr(exchange, "look_up", look_up)
    with pytest.raises(ClusterError, match=r"Launcher: the name h0 is unknown here .* Set TFDIST_COORDINATOR"):
        exchange_addresses(ProcessGroup("Launcher", 0, 2, "h0", 500), timeout_seconds=60, environ={})


def test_neighbours_of_process_0_are_listed_by_its_name(monkeypatch):
    monkeypatch.setattr(exchange, "is_own", lambda addresses: set(addresses) <= {"127.0.0.1", "::1", "10.0.0.4"})
    hosts = list_hosts("head", ["127.0.0.1", "10.0.0.5", "::1", "10.0.0.4", "fe80::5%eth0"])
    assert hosts == ["head", "head", "10.0.0.5", "head", "head", "fe80::5%eth0"]
