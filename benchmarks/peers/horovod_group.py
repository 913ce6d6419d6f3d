"""Starts Horovod's ranks in their own environment, with the variables that `horovodrun --gloo` would set.

Started from here, each rank has its place, its deadline and its end like every other worker, and needs no ssh.
"""

import functools
import os
import pathlib

from tfdist.bench.processes import ContenderGroup
from tfdist.cluster.ports import free_ports
from tfdist.process.child import Start

CONTENDERS = ("horovod", "horovod_grouped", "horovod_fp16")
# Variables of the environment of Keras 3 that the ranks must not inherit.
_OTHERS = ("TF_CONFIG", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "KERAS_BACKEND")
# Longer than any pause, because a rank that was stopped counts that time too.
_GLOO_TIMEOUT_SECONDS = 7200


def read_python(venv):
    """Returns the path of an environment's Python.

    Raises:
        ValueError: there is none, or no Horovod in it.
    """
    # Not resolved, because the link's target is outside the environment.
    python = pathlib.Path(venv).absolute() / "bin" / "python"
    if not list(python.parent.parent.glob("lib/python3*/site-packages/horovod/__init__.py")):
        raise ValueError(f"--horovod={venv}: no Horovod there. Make it: benchmarks/peers/make_horovod.sh {venv}")
    return str(python)


class SharedGroup:
    """Ranks that all of Horovod's contenders share to save memory; `make` is called as `ContenderGroup` is.

    Args:
        python: the Python of Horovod's environment.
        places: a `WorkerPlace` per rank.
        interface: the network interface that reaches the others.
        check: called with the number of ranks before they are started.
    """

    def __init__(self, python, places, interface, check):
        self._where = (python, places, interface)
        self._check = check
        self._group = None

    def make(self, contender, *about):
        """Starts the ranks unless they run already; returns one contender's part in them."""
        if self._group is None or self._group.has_ended:
            self._check(len(self._where[1]))
            starts = rank_starts(*self._where, free_ports(1)[0], os.environ)
            self._group = ContenderGroup(contender, *about, starts=starts, pause=True)
        return _Part(self._group, contender)


class _Part:
    def __init__(self, group, contender):
        self._group, self._contender = group, contender

    def ask(self, do, **more):
        return self._group.ask(do, contender=self._contender, **more)

    def end(self):
        self._group.end()


def rank_starts(python, places, interface, port, environ):
    """Returns the `Start` of each rank; starts nothing.

    Args:
        python, places, interface: as in `SharedGroup`.
        port: the port at which rank 0 serves the addresses.
        environ: the environment that they inherit.
    """
    hosts = list(dict.fromkeys(place.host for place in places))
    slots = {host: [rank for rank, place in enumerate(places) if place.host == host] for host in hosts}
    inherited = {name: value for name, value in environ.items() if name not in _OTHERS and "proxy" not in name.lower()}
    common = inherited | {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": places[0].host,
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port),
        "HOROVOD_GLOO_IFACE": interface,
        "HOROVOD_GLOO_TIMEOUT_SECONDS": str(_GLOO_TIMEOUT_SECONDS),
        "HOROVOD_STALL_CHECK_DISABLE": "1",
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
        "HOROVOD_HOSTS": ",".join(f"{host}:{len(slots[host])}" for host in hosts),
        "HOROVOD_SIZE": str(len(places)),
    }
    make = functools.partial(_rank_environ, hosts=hosts, slots=slots)
    command = (python, "-m", "benchmarks.peers.horovod_child")
    return [Start((*place.prefix, *command), common | make(rank, place)) for rank, place in enumerate(places)]


def _rank_environ(rank, place, *, hosts, slots):
    return {
        "HOROVOD_HOSTNAME": place.host,
        "HOROVOD_RANK": str(rank),
        "HOROVOD_LOCAL_RANK": str(slots[place.host].index(rank)),
        "HOROVOD_LOCAL_SIZE": str(len(slots[place.host])),
        "HOROVOD_CROSS_RANK": str(hosts.index(place.host)),
        "HOROVOD_CROSS_SIZE": str(len(hosts)),
    }
