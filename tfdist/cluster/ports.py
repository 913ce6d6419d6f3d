"""Free ports of this machine."""

import socket


def free_ports(count: int) -> tuple[int, ...]:
    """Returns ports that are free now on every interface, because TensorFlow listens on all of them."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("", 0))
        return tuple(item.getsockname()[1] for item in sockets)
    finally:
        for item in sockets:
            item.close()
