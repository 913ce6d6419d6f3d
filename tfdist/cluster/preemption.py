"""Sends this process a SIGTERM, on which a run saves and stops, before a cloud or Slurm takes the machine away."""

import contextlib
import json
import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tfdist.process.log import say, warn

# Enough to end a call and to save. Of a short job it is a tenth.
_SECONDS_BEFORE_END = 60


@dataclass(frozen=True)
class Notice:
    """Where a cloud publishes the preemption of a machine.

    Attributes:
        url: an address of the machine's own metadata service.
        headers: the headers that the service requires.
        is_given: the answer's text → whether the machine will be taken away.
    """

    url: str
    headers: dict[str, str]
    is_given: Callable[[str], bool]


def _is_azure_notice(text: str) -> bool:
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
        _is_azure_notice,
    ),
}


@contextlib.contextmanager
def watched(notice: Notice | None, *, every_seconds: float = 5.0) -> Iterator[None]:
    """Polls for the notice within the `with` block, and sends this process a SIGTERM once it is given.

    Args:
        notice: one of NOTICES, or None for no polling.
        every_seconds: the time between two requests; the clouds give 30 s or more.
    """
    if notice is None:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_poll, args=(notice, every_seconds, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=every_seconds)


@contextlib.contextmanager
def stopped_before_end(environ: Mapping[str, str]) -> Iterator[None]:
    """Sends this process a SIGTERM before Slurm ends its job, unless the `with` block is left earlier.

    Args:
        environ: the environment variables, of which SLURM_JOB_END_TIME is read, in seconds since 1970.
    """
    text = environ.get("SLURM_JOB_END_TIME", "")
    left = int(text) - time.time() if re.fullmatch("[0-9]{1,10}", text) else 0
    if left <= 0:
        yield
        return
    timer = threading.Timer(left - min(_SECONDS_BEFORE_END, left / 10), _stop, ["Slurm will end this job soon"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _stop(reason: str) -> None:
    say(f"{reason}: sending SIGTERM to this process.")
    os.kill(os.getpid(), signal.SIGTERM)


def _poll(notice: Notice, every_seconds: float, over: threading.Event) -> None:
    warned = False
    while not over.wait(every_seconds):
        try:
            given = notice.is_given(_fetch(notice))
        except (OSError, ValueError) as error:
            if not warned:
                warn(
                    f"preemption_notice: {notice.url} gives no answer ({error}). Check that this machine is in that "
                    "cloud. Asking again."
                )
            warned = True
            continue
        if given:
            _stop("the cloud will take this machine away")
            return


def _fetch(notice: Notice) -> str:
    request = urllib.request.Request(notice.url, headers=notice.headers)
    # The service belongs to the machine, so no proxy is needed.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=5) as answer:
        content: bytes = answer.read()
    return content.decode()
