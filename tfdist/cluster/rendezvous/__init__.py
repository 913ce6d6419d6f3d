"""Before TensorFlow is loaded: who is there, by a deadline, and does everyone run the same?

TensorFlow's own start waits without a word for a worker that never comes. Here all workers meet first: worker 0
listens on its address, the others say hello, and it tells each of them how it went.
"""

from tfdist.cluster.rendezvous.meeting import meet
from tfdist.cluster.rendezvous.messages import RendezvousError

__all__ = ["RendezvousError", "meet"]
