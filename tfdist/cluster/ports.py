"""Ports of this machine that no one has."""

import socket


def free_ports(count):
    """Finds ports that are free now, on every interface, for that is where TensorFlow listens."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("", 0))
        return tuple(item.getsockname()[1] for item in sockets)
    finally:
        for item in sockets:
            item.close()
