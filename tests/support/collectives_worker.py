"""What each worker of `test_split.py` runs: counts the collectives in the compiled parts of a step.

Usage: python collectives_worker.py, with TF_CONFIG set.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import tensorflow as tf

import tfdist
from tfdist.bench.config import BenchConfig
from tfdist.bench.contenders import TfdistFit
from tfdist.bench.task import make_task
from tfdist.measure.split import Parts


def collectives(function, batches):
    """Counts the collectives in the body of a compiled loop, where the step is."""
    graph = function.get_concrete_function(batches, tf.constant(1, tf.int64)).graph.as_graph_def()
    bodies = [item for item in graph.library.function if "while_body" in item.signature.name]
    return sum(node.op.startswith("CollectiveReduce") for body in bodies for node in body.node_def)


def main():
    config = BenchConfig(model="cnn", dataset="digits", replica_batch=4, steps_per_execution=2)
    task = make_task(config, tfdist.choose_strategy("multi_worker"))
    contender = TfdistFit(task)
    contender.run(2)
    parts = Parts(task, contender.model)
    ((batches, _),) = task.source.deliver(task.strategy)().calls(1)
    print(json.dumps({name: collectives(parts.loop(name), batches) for name in ("kept", "reduce", "compute")}))


if __name__ == "__main__":
    main()
