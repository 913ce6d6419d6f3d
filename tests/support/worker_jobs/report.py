"""What two workers train for `tests/callbacks/test_report.py`."""

from support.slow import make_model, slow_batches

import tfdist
from tfdist.callbacks.report import Report

DELAY = 0.06


def report_of_a_slow_worker(strategy, kind):
    """Trains while worker 1 is slow in its "input" or in its "model"; returns (history, summary of the report)."""
    delay = DELAY * strategy.cluster_resolver.task_id
    with strategy.scope():
        model = make_model(delay if kind == "model" else 0.0)
    report = Report(strategy)
    data = slow_batches(delay if kind == "input" else 0.0, batches=9)
    history = tfdist.fit(model, data, epochs=2, verbose=0, callbacks=[report]).history
    return history, report.summary()
