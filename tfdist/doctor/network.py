"""The cluster and the network between its workers: facts, and facts → lines."""

import ipaddress

from tfdist.cluster.addresses import split_address
from tfdist.cluster.rendezvous import RendezvousError
from tfdist.cluster.rendezvous.door import open_port
from tfdist.cluster.rendezvous.names import look_up
from tfdist.cluster.rendezvous.proxies import plan_bypass, proxies_in_use
from tfdist.doctor.environment import ALONE
from tfdist.doctor.lines import FAIL, OK, WARN, Line, fail_with


def read_hosts(workers, timeout_seconds=5.0):
    """Looks up all hosts; returns a dict: host → its addresses, or the text of the error."""
    hosts = {}
    for address in workers:
        host, port = split_address(address)
        if host not in hosts:
            try:
                found = look_up(host, port, timeout_seconds)
                hosts[host] = list(dict.fromkeys(place[0] for *_, place in found))
            except OSError as error:
                hosts[host] = str(error)
    return hosts


def check_cluster(cluster):
    """Returns the line about the cluster and this worker's place in it."""
    if cluster is None:
        return Line(OK, "cluster", ALONE)
    role = "the chief" if cluster.is_chief else "not the chief"
    text = f"{cluster.source}: worker {cluster.rank} of {cluster.size} at {cluster.address}, {role}"
    return Line(OK, "cluster", text)


def check_hosts(hosts, own_host, own):
    """Checks the hosts of the workers.

    Args:
        hosts: host → its addresses, or the text of the error, as `read_hosts` returns them.
        own_host: the host of this worker.
        own: whether one of its addresses belongs to this machine.
    """
    unknown = {host: found for host, found in hosts.items() if isinstance(found, str)}
    if unknown:
        cure = "Correct the name in the list of every worker, or make it known (DNS, /etc/hosts)."
        return Line(FAIL, "hosts", "; ".join(unknown.values()), cure)
    loopback = [host for host, found in hosts.items() if all(ipaddress.ip_address(a).is_loopback for a in found)]
    if loopback and len(loopback) < len(hosts) and own_host not in loopback:
        text = f"{', '.join(loopback)} means this machine itself, but the list has other machines too"
        return Line(FAIL, "hosts", text, "Use the address at which the others reach that worker.")
    if not own:
        text = f"{own_host} is no address of this machine ({', '.join(hosts[own_host])})"
        cure = "This is fine behind a service or a published port; otherwise correct the task index of this process."
        return Line(WARN, "hosts", text, cure)
    return Line(OK, "hosts", f"{len(hosts)} known: {', '.join(list(hosts)[:8])}{', …' if len(hosts) > 8 else ''}")


def check_port(cluster):
    """Checks that this worker's port is free, by opening and closing it."""
    try:
        open_port(cluster.address, cluster.rank).close()
    except RendezvousError as error:
        return fail_with("port", error)
    return Line(OK, "port", f"{split_address(cluster.address)[1]} is free")


def check_proxies(environ, workers):
    """Checks the proxy variables."""
    used = proxies_in_use(environ)
    if not used:
        return Line(OK, "proxies", "none")
    changes = plan_bypass(environ, workers) if workers else {}
    if not changes:
        return Line(OK, "proxies", f"{', '.join(used)}; no worker is reached through them")
    commands = " ".join(f"{name}={value}" for name, value in changes.items())
    return Line(
        WARN,
        "proxies",
        f"{', '.join(used)} would stand between the workers; tfdist bypasses them in its own runs",
        f"For other programs: export {commands}",
    )
