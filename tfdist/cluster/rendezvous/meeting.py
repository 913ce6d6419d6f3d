"""All workers meet: the one call that each of them makes."""

import contextlib
import json
import os
from collections.abc import MutableMapping

from tfdist.cluster.fingerprint import differences
from tfdist.cluster.rendezvous.door import open_port
from tfdist.cluster.rendezvous.guest import visit
from tfdist.cluster.rendezvous.host import Reception
from tfdist.cluster.rendezvous.messages import MismatchError, RendezvousError, encode
from tfdist.cluster.rendezvous.proxies import bypass
from tfdist.cluster.tf_config import Cluster

# How long a worker that cannot take part tries to tell the others why.
_EXCUSE_SECONDS = 3.0


def meet(
    cluster: Cluster,
    hello: dict,
    *,
    announcement: dict | None = None,
    timeout_seconds: float = 60.0,
    environ: MutableMapping[str, str] = os.environ,
) -> dict:
    """Waits until every worker of the cluster is there; called by all workers, before TensorFlow is loaded.

    Everyone is back by `timeout_seconds` and a few seconds more. The port of this worker is free again afterwards.

    Args:
        cluster: the `Cluster`.
        hello: JSON; what must be the same on all workers, see `tfdist.cluster.fingerprint`.
        announcement: JSON; what the chief tells all. Of the others it is not looked at.
        timeout_seconds: how long to wait, from the start of the first worker on.
        environ: where the workers' hosts are taken out of the proxies' way.

    Returns:
        The chief's announcement, or {}.

    Raises:
        RendezvousError: names the absent workers or the busy port.
        MismatchError: names the first difference: worker, key, both values.
        ValueError: hello or announcement is not JSON, or too long.
    """
    bypass(environ, cluster.workers)
    # As the others will see it, tuples as lists: worker 0 compares alike with alike.
    hello = _as_json(hello, workers=cluster.workers)
    announcement = _as_json(announcement or {})
    try:
        door = open_port(cluster.address, cluster.rank)
    except RendezvousError as error:
        if cluster.rank:
            _excuse(cluster, str(error), timeout_seconds)
        raise
    with door:
        if cluster.rank:
            return visit(cluster.workers, cluster.rank, hello, timeout_seconds)
        with Reception(door, cluster.workers, timeout_seconds) as reception:
            _receive_all(reception, hello, encode(announcement=announcement))
    return announcement


def _as_json(value, **beside):
    return json.loads(encode(value=value, **beside))["value"]


def _receive_all(reception, hello, told):
    reception.wait()
    absent = reception.absent()
    problem = reception.trouble or (reception.describe_absent() if absent else None)
    difference = None if problem else _describe_differences([hello, *reception.hellos])
    if problem or difference:
        line = encode(error=problem or difference, mismatch=bool(difference))
        reception.tell(line, line)
        reception.linger(absent)
        raise MismatchError(difference) if difference else RendezvousError(problem)
    reception.tell(told, encode(error="rendezvous: too late, this run has started with all its workers."))


def _describe_differences(hellos):
    found = differences(hellos)
    if not found:
        return None
    more = f" {len(found) - 1} more differ, such as {found[1]}." if found[1:] else ""
    return f"rendezvous: the workers do not run the same: {found[0]}.{more} Make them equal on every worker."


def _excuse(cluster, trouble, timeout_seconds):
    """Tells worker 0, and so all, why this one cannot take part; if worker 0 is not there, its deadline tells."""
    with contextlib.suppress(RendezvousError):
        visit(cluster.workers, cluster.rank, {}, min(timeout_seconds, _EXCUSE_SECONDS), trouble)
