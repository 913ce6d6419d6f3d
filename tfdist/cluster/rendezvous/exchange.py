"""The processes of a launcher tell each other where they are, before there is a cluster."""

from collections.abc import MutableMapping

from tfdist.cluster.addresses import ClusterError, is_own
from tfdist.cluster.group import COORDINATOR, ProcessGroup
from tfdist.cluster.members import Cluster
from tfdist.cluster.rendezvous.door import open_port
from tfdist.cluster.rendezvous.guest import meet_worker_0
from tfdist.cluster.rendezvous.host import MeetingServer
from tfdist.cluster.rendezvous.meeting import receive_all
from tfdist.cluster.rendezvous.names import look_up
from tfdist.cluster.rendezvous.proxies import bypass

_LOOK_UP_SECONDS = 10.0


def exchange_addresses(group: ProcessGroup, *, timeout_seconds: float, environ: MutableMapping[str, str]) -> Cluster:
    """Exchanges the addresses of all processes of a group; called by all of them, before `meet`.

    Process 0 listens, sees from where each of the others connects, and sends all of them the list.

    Args:
        group: the `ProcessGroup`.
        timeout_seconds: how long to wait for the others.
        environ: the environment variables; they are changed so that process 0 is reached without a proxy.

    Returns:
        The cluster.

    Raises:
        RendezvousError: a process is absent or a port is in use; the message names it.
        ClusterError: process 0 is on another host than the launcher told.
    """
    bypass(environ, [group.meeting_point])
    # The meeting compares the lists of workers, of which only the first address is known.
    workers = (group.meeting_point, *["address not known yet"] * (group.size - 1))
    if group.rank:
        return group.make_cluster(meet_worker_0(workers, group.rank, {}, timeout_seconds)["hosts"], environ)
    _check_coordinator(group)
    with open_port(group.meeting_point, 0) as listener, MeetingServer(listener, workers, timeout_seconds) as server:
        hosts = receive_all(server, {}, lambda: {"hosts": list_hosts(group.coordinator, server.origins)})["hosts"]
    return group.make_cluster(hosts, environ)


def list_hosts(coordinator: str, origins: list[str]) -> list[str]:
    """Returns the host of each process by rank.

    Args:
        coordinator: the host of process 0.
        origins: the IP addresses from which the others have connected. Those of this host stand for its one name,
            because workers of one host have different ports, and the loopback address is of no use to the others.
    """
    return [coordinator, *(coordinator if is_own([origin]) else origin for origin in origins)]


def _check_coordinator(group: ProcessGroup) -> None:
    """Refuses a coordinator on another host: the others would wait there for ever."""
    try:
        places = [str(target[0]) for *_, target in look_up(group.coordinator, group.port, _LOOK_UP_SECONDS)]
    except OSError as error:
        raise ClusterError(f"{group.source}: {error}. Set {COORDINATOR} to the host of process 0.") from None
    if not is_own(places):
        raise ClusterError(
            f"{group.source}: process 0 runs here, but the others would look for it at {group.coordinator}, which is "
            f"another host. Set {COORDINATOR} to the host of process 0 in each process."
        )
