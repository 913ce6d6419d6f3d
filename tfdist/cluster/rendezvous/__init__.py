"""The rendezvous: before TensorFlow is loaded, checks that all workers are present and have the same fingerprint.

TensorFlow's own start waits without a message for a worker that never comes. So all workers meet before it: worker 0
listens on its address, the others send it their hello, and it sends each of them the result.
"""

from tfdist.cluster.rendezvous.meeting import meet
from tfdist.cluster.rendezvous.messages import RendezvousError

__all__ = ["RendezvousError", "meet"]
