"""A child of the acceptance without TensorFlow: it answers, hangs, crashes and errs as its arguments say.

Usage: python fake_place.py PLACE REPLICAS PLACE:NAME=FAULT …, where NAME is a kind or "about" or "speed", and FAULT is
"hang", "crash", "raise" or "wrong".
"""

import os
import signal
import sys
import time

from tfdist.process.child import serve

PLACE, REPLICAS = sys.argv[1], int(sys.argv[2])
FAULTS = dict(argument.split("=") for argument in sys.argv[3:])


def answer(request):
    """Answers as `TrainingPlace.answer`."""
    fault = FAULTS.get(f"{PLACE}:{request.get('kind', request['do'])}")
    if fault == "hang":
        time.sleep(600)
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "raise":
        raise RuntimeError("NCCL has no such type")
    if request["do"] == "about":
        known = {"gpus": [], "tf32": False, "tpu": False, "libraries": []}
        return {"strategy": "FakeStrategy", "replicas": REPLICAS, **known}
    if request["do"] == "speed":
        return {name: 1000.0 * (place + 1) for place, name in enumerate(request["loops"])}
    return {"weight": [1.0, 2.5 if fault == "wrong" else 2.0]}


if __name__ == "__main__":
    serve(answer)
