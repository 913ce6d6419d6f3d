"""Takes the workers' hosts out of proxies, because gRPC would send their messages there, where they are lost."""

from collections.abc import Mapping, MutableMapping, Sequence

from tfdist.cluster.addresses import split_address
from tfdist.process.log import say

_PROXIES = ("grpc_proxy", "http_proxy", "https_proxy", "all_proxy")
PROXIES = (*_PROXIES, *(name.upper() for name in _PROXIES))


def proxies_in_use(environ: Mapping[str, str]) -> list[str]:
    """Lists the variables that name a proxy."""
    return [name for name in PROXIES if environ.get(name)]


def plan_bypass(environ: Mapping[str, str], workers: Sequence[str]) -> dict[str, str]:
    """Returns the variables to set so that no worker is reached through a proxy.

    Args:
        environ: the environment variables.
        workers: the addresses of all workers.

    Returns:
        Variable → its new value; empty where there is no proxy, or the workers' hosts are listed already.
    """
    if not proxies_in_use(environ):
        return {}
    hosts = list(dict.fromkeys(split_address(address)[0] for address in workers))
    default = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    # gRPC reads only no_grpc_proxy where it is set.
    names = ["no_proxy", "NO_PROXY"] + ["no_grpc_proxy"] * ("no_grpc_proxy" in environ)
    changes = {}
    for name in names:
        listed = [item.strip() for item in environ.get(name, default).split(",") if item.strip()]
        # A lone "*" means all hosts for Python and curl, but beside other items it means nothing.
        missing = [] if listed == ["*"] and name != "no_grpc_proxy" else [host for host in hosts if host not in listed]
        if missing or name not in environ:
            changes[name] = ",".join(listed + missing)
    if "*" in (changes.get("no_proxy"), environ.get("no_proxy")) and "no_grpc_proxy" not in environ:
        changes["no_grpc_proxy"] = ",".join(hosts)
    return changes


def bypass(environ: MutableMapping[str, str], workers: Sequence[str]) -> None:
    """Sets the variables of `plan_bypass`, and logs that in one line."""
    changes = plan_bypass(environ, workers)
    if changes:
        environ.update(changes)
        say(
            f"{', '.join(proxies_in_use(environ))} is set: the workers' hosts are now in {', '.join(changes)}, "
            "because gRPC would go through the proxy."
        )
