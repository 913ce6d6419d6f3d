"""What each worker of `test_report.py` runs: worker 1 is slow, in its input or in its model.

Usage: python report_worker.py input|model, with TF_CONFIG set.
"""

import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from support.slow import make_model, slow_batches

import tfdist
from tfdist.callbacks.report import Report

DELAY = 0.06


def main(kind):
    cluster = tfdist.read_cluster(os.environ)
    strategy = tfdist.choose_strategy("multi_worker", cluster=cluster)
    delay = DELAY if cluster.rank == 1 else 0.0
    with strategy.scope():
        model = make_model(delay if kind == "model" else 0.0)
    report = Report(strategy)
    data = slow_batches(delay if kind == "input" else 0.0, batches=9)
    history = tfdist.fit(model, data, epochs=2, verbose=0, callbacks=[report]).history
    print(json.dumps({"slowest_worker": history["slowest_worker"], "summary": report.summary()}))


if __name__ == "__main__":
    main(sys.argv[1])
