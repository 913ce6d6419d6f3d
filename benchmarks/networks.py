"""Makes the workers' network: loopback, or on Linux a namespace per worker behind a link of a given rate.

Every worker gets a network namespace with one interface, joined to the others by a bridge in a namespace of its own.
Both ends of each link are limited to the rate. The machine's own network is not touched.
"""

import contextlib
import os
import shutil
import subprocess

from tfdist.bench.processes import WorkerPlace

# Name → the rate of each worker's link, for `tc`; None for no limit.
RATES = {"loopback": None, "1gbit": "1gbit"}
INTERFACE = "eth0"
_TIMEOUT_SECONDS = 30


def missing():
    """Returns a sentence that says why this process cannot make networks, or None."""
    for tool, package in (("ip", "iproute2"), ("tc", "iproute2"), ("unshare", "util-linux")):
        if shutil.which(tool) is None:
            return f"`{tool}` is not installed: it comes with {package}."
    return None if os.geteuid() == 0 else "Only root may make network namespaces."


def plan(name, workers, rate):
    """Returns the commands that make the namespaces and that remove them; runs nothing.

    Args:
        name: the beginning of the namespaces' names.
        workers: the number of workers.
        rate: the rate of each link, as `tc` takes it.

    Returns:
        (commands, commands that undo them), each a tuple of words.
    """
    spaces = [space_of(name, rank) for rank in range(workers)]
    switch = f"{name}-switch"
    limit = ("root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms")
    up = [("ip", "netns", "add", space) for space in (switch, *spaces)]
    up += [("ip", "-n", switch, "link", "add", "bridge", "type", "bridge"), _rise(switch, "bridge")]
    for rank, space in enumerate(spaces):
        port = f"port{rank}"
        up += [
            ("ip", "-n", switch, "link", "add", port, "type", "veth", "peer", "name", INTERFACE, "netns", space),
            ("ip", "-n", switch, "link", "set", port, "master", "bridge"),
            ("ip", "-n", space, "address", "add", f"{address(rank)}/24", "dev", INTERFACE),
            *(_rise(switch, port), _rise(space, "lo"), _rise(space, INTERFACE)),
            ("tc", "-n", switch, "qdisc", "add", "dev", port, *limit),
            ("tc", "-n", space, "qdisc", "add", "dev", INTERFACE, *limit),
        ]
    # The links are removed with the namespaces.
    return up, [("ip", "netns", "delete", space) for space in (*spaces, switch)]


def space_of(name, rank):
    """Returns the name of a worker's namespace."""
    return f"{name}-{rank}"


def address(rank):
    """Returns a worker's address."""
    return f"10.77.0.{rank + 1}"


def prefix_of(name, rank):
    """Returns the words that precede a worker's command, so that it runs in its namespace."""
    # The host name is set to the address, because Gloo looks that name up whatever interface it is given.
    named = f'echo {address(rank)} > /proc/sys/kernel/hostname; exec "$@"'
    return ("ip", "netns", "exec", space_of(name, rank), "unshare", "--uts", "sh", "-c", named, "sh")


def _rise(space, interface):
    return ("ip", "-n", space, "link", "set", interface, "up")


@contextlib.contextmanager
def make(workers, rate):
    """Makes a network for the time of a `with` block.

    Args:
        workers: the number of workers.
        rate: the rate of each worker's link, or None for loopback.

    Yields:
        A list with a `WorkerPlace` per worker.

    Raises:
        ValueError: the network cannot be made here; the message says why.
    """
    if rate is None:
        yield [WorkerPlace()] * workers
        return
    if reason := missing():
        raise ValueError(f"No network of {rate}: {reason}")
    # The process id tells the namespaces from those of another run at the same time.
    name = f"tfdist-{os.getpid()}"
    up, down = plan(name, workers, rate)
    try:
        for command in up:
            _run(command)
        yield [WorkerPlace(address(rank), prefix_of(name, rank)) for rank in range(workers)]
    finally:
        for command in down:
            subprocess.run(command, check=False, capture_output=True, timeout=_TIMEOUT_SECONDS)


def _run(command):
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS)
    if ended.returncode:
        raise ValueError(f"{' '.join(command)}: {ended.stderr.strip() or f'exit code {ended.returncode}'}")
