"""Addresses of workers, "host:port"."""

import ipaddress
import json
import re
import socket
from collections.abc import Iterable

from tfdist.process.errors import TfdistError

_HOST = re.compile(r"[A-Za-z0-9._-]+")
_PORT = re.compile(r"[0-9]{1,5}")


class ClusterError(TfdistError, ValueError):
    """The environment describes a cluster that cannot train."""


def split_address(address: object, where: str = "address") -> tuple[str, int]:
    """Splits "host:port" or "[IPv6]:port" into the host, without brackets, and the port.

    Raises:
      ClusterError: the address is malformed; the message begins with `where`.
    """
    if not isinstance(address, str):
        raise ClusterError(f'{where} is {show(address)}. Write a string "host:port".')
    what = f"{where} is {show(address)}"
    if "://" in address:
        raise ClusterError(f'{what}. Leave the scheme out: TensorFlow takes only "host:port".')
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        raise ClusterError(f'{what}, which has no port. Write "host:port".')
    if not host:
        raise ClusterError(f'{what}, which has no host. Write "host:port".')
    host = _check_host(host, what)
    if not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
        raise ClusterError(f"{what}, whose port is {show(port)}. Use a number in 1..65535.")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """Returns "host:port", with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def hosts_of(addresses: Iterable[str]) -> frozenset[str]:
    """Returns the hosts of addresses "host:port"."""
    return frozenset(address.rpartition(":")[0] for address in addresses)


def is_own(addresses: Iterable[str]) -> bool:
    """Returns whether one of these IP addresses belongs to this machine."""
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as connection:
                connection.bind((address, 0))
            return True
        except OSError:
            continue
    return False


def show(value: object) -> str:
    """Returns a value as short ASCII JSON, which is safe to print."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str) and len(value) > 60:
        return json.dumps(value[:60]) + "..."
    return json.dumps(value, default=repr)


def _check_host(host: str, what: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            # The shortest, lower-case form, so that two spellings of one address are equal.
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ClusterError(f'{what}, whose brackets hold no IPv6 address. Write it like "[::1]:2222".') from None
    if ":" in host:
        raise ClusterError(f'{what}, which has several colons. Put an IPv6 address in brackets: "[::1]:2222".')
    if not _HOST.fullmatch(host):
        raise ClusterError(f'{what}, whose host is {show(host)}. Use only letters, digits, ".", "-" and "_" in a host.')
    return host
