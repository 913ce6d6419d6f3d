"""Host names → addresses, with a time limit."""

import queue
import socket
import threading
from collections.abc import Sequence

# The address that `socket.connect` takes, and before it how to make the socket.
Target = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
Found = tuple[socket.AddressFamily, socket.SocketKind, int, str, Target]


def look_up(host: str, port: int, timeout_seconds: float) -> Sequence[Found]:
    """Returns the result of `socket.getaddrinfo` for TCP.

    Raises:
        OSError: the name is unknown on this machine, or the look-up took too long.
    """
    answers: queue.SimpleQueue[Sequence[Found] | OSError | UnicodeError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    # In a thread, because the look-up itself has no time limit.
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_seconds)
    except queue.Empty:
        raise OSError(f"the look-up of {host} gave no answer in {timeout_seconds:.0f} s") from None
    if isinstance(answer, Exception):
        raise OSError(f"the name {host} is unknown here ({getattr(answer, 'strerror', None) or answer})")
    return answer
