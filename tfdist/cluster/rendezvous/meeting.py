"""The rendezvous of all workers: the one function that each of them calls."""

import contextlib
import json
import os
from collections.abc import Callable, MutableMapping, Sequence

from tfdist.cluster.members import Cluster
from tfdist.cluster.rendezvous.door import open_port
from tfdist.cluster.rendezvous.guest import meet_worker_0
from tfdist.cluster.rendezvous.host import MeetingServer
from tfdist.cluster.rendezvous.messages import Json, MismatchError, RendezvousError, encode
from tfdist.cluster.rendezvous.proxies import bypass
from tfdist.process.same_run import differences

# How long a worker that cannot take part tries to report the reason to worker 0.
_REPORT_SECONDS = 3.0


def meet(
    cluster: Cluster,
    hello: Json,
    *,
    announcement: Json | None = None,
    timeout_seconds: float = 60.0,
    environ: MutableMapping[str, str] = os.environ,
) -> Json:
    """Waits until every worker of the cluster is there; called by all workers, before TensorFlow is loaded.

    The call returns or raises within `timeout_seconds` and a few seconds more, and frees this worker's port again.

    Args:
        cluster: the `Cluster`.
        hello: JSON types that must be the same on all workers, see `tfdist.cluster.fingerprint`.
        announcement: JSON types that the chief sends to all workers; other workers' announcements are ignored.
        timeout_seconds: how long to wait, from the start of the first worker on.
        environ: the environment variables; they are changed so that the workers' hosts bypass proxies.

    Returns:
        The chief's announcement, or {}.

    Raises:
        RendezvousError: a worker is absent or a port is in use; the message names it.
        MismatchError: the workers' hellos differ; the message names worker, key and both values.
        ValueError: hello or announcement is not JSON, or too long.
    """
    bypass(environ, cluster.workers)
    # JSON turns tuples into lists, so worker 0 must compare its own hello in that form.
    hello = _as_json(hello, workers=cluster.workers)
    announcement = _as_json(announcement or {})
    try:
        listener = open_port(cluster.address, cluster.rank)
    except RendezvousError as error:
        if cluster.rank:
            _report_trouble(cluster, str(error), timeout_seconds)
        raise
    with listener:
        if cluster.rank:
            return meet_worker_0(cluster.workers, cluster.rank, hello, timeout_seconds)
        with MeetingServer(listener, cluster.workers, timeout_seconds) as server:
            return receive_all(server, hello, lambda: announcement)


def _as_json(value: Json, **beside: object) -> Json:
    decoded: Json = json.loads(encode(value=value, **beside))["value"]
    return decoded


def receive_all(server: MeetingServer, hello: Json, make_announcement: Callable[[], Json]) -> Json:
    """Receives all workers on worker 0, and sends them the announcement, which it returns.

    Args:
        server: the server of worker 0.
        hello: worker 0's own.
        make_announcement: called once all workers are there.

    Raises:
        RendezvousError: a worker is absent, or cannot take part.
        MismatchError: the workers' hellos differ.
    """
    server.wait()
    absent = server.absent()
    problem = server.trouble or (server.describe_absent() if absent else None)
    difference = None if problem else _describe_differences([hello, *server.hellos])
    if problem or difference:
        line = encode(error=problem or difference, mismatch=bool(difference))
        server.send_result(line, line)
        server.answer_late_workers(absent)
        raise MismatchError(difference) if difference else RendezvousError(problem)
    too_late = "rendezvous: too late, this run has started with all its workers."
    announcement = make_announcement()
    server.send_result(encode(announcement=announcement), encode(error=too_late))
    return announcement


def _describe_differences(hellos: Sequence[Json]) -> str | None:
    found = differences(hellos)
    if not found:
        return None
    more = f" {len(found) - 1} more differ, such as {found[1]}." if found[1:] else ""
    return f"rendezvous: the workers do not run the same: {found[0]}.{more} Make them equal on every worker."


def _report_trouble(cluster: Cluster, trouble: str, timeout_seconds: float) -> None:
    """Reports to worker 0, and so to all, why this worker cannot take part; gives up if worker 0 is absent."""
    with contextlib.suppress(RendezvousError):
        meet_worker_0(cluster.workers, cluster.rank, {}, min(timeout_seconds, _REPORT_SECONDS), trouble)
