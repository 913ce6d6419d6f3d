"""What two workers count for `tests/measure/test_split.py`."""

import tensorflow as tf

from tfdist.bench.config import BenchConfig
from tfdist.bench.contenders import TfdistFit
from tfdist.bench.task import make_task
from tfdist.measure.split import Parts


def collectives_of_a_step(strategy):
    """Returns the number of collectives in each compiled part of a step."""
    config = BenchConfig(model="cnn", dataset="digits", replica_batch=4, steps_per_execution=2)
    task = make_task(config, strategy)
    contender = TfdistFit(task)
    contender.run(2)
    parts = Parts(task, contender.model)
    ((batches, _),) = task.source.deliver(task.strategy)().calls(1)
    return {name: _collectives(parts.loop(name), batches) for name in ("kept", "reduce", "compute")}


def _collectives(function, batches):
    """Counts the collectives in the body of a compiled loop, where the step is."""
    graph = function.get_concrete_function(batches, tf.constant(1, tf.int64)).graph.as_graph_def()
    bodies = [item for item in graph.library.function if "while_body" in item.signature.name]
    return sum(node.op.startswith("CollectiveReduce") for body in bodies for node in body.node_def)
