"""A cloud's notice that it will take this machine away, turned into the SIGTERM that a run knows how to obey."""

import contextlib
import json
import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tfdist.process.log import say, warn


@dataclass(frozen=True)
class Notice:
    """Where a cloud tells a machine of its end.

    Attributes:
        url: an address of the machine's own metadata service.
        headers: what the service wants to see.
        is_given: the answer's text → whether the machine will go.
    """

    url: str
    headers: dict[str, str]
    is_given: Callable[[str], bool]


def _ends_in_azure(text: str) -> bool:
    return any(event.get("EventType") in ("Preempt", "Terminate") for event in json.loads(text).get("Events", ()))


# As the clouds document them: "Preemptible VM instances" (Google), "Scheduled Events" (Azure).
NOTICES = {
    "gce": Notice(
        "http://metadata.google.internal/computeMetadata/v1/instance/preempted",
        {"Metadata-Flavor": "Google"},
        lambda text: text.strip() == "TRUE",
    ),
    "azure": Notice(
        "http://169.254.169.254/metadata/scheduledevents?api-version=2020-07-01",
        {"Metadata": "true"},
        _ends_in_azure,
    ),
}


@contextlib.contextmanager
def watched(notice: Notice | None, *, every_seconds: float = 5.0) -> Iterator[None]:
    """Asks for the notice from time to time while it is entered, and sends this process a SIGTERM once it is given.

    Args:
        notice: one of NOTICES, or None for nothing to ask.
        every_seconds: the time between two questions; the clouds give 30 s or more.
    """
    if notice is None:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(notice, every_seconds, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=every_seconds)


def _watch(notice, every_seconds, over):
    silent = False
    while not over.wait(every_seconds):
        try:
            given = notice.is_given(_ask(notice))
        except (OSError, ValueError) as error:
            if not silent:
                warn(f"preemption_notice: {notice.url} gives no answer ({error}). Is this that cloud? Asking on.")
            silent = True
            continue
        if given:
            say("the cloud will take this machine away.")
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _ask(notice):
    request = urllib.request.Request(notice.url, headers=notice.headers)
    # The service is the machine's own: no proxy stands between.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=5) as answer:
        return answer.read().decode()
