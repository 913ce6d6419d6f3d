"""`python -m tfdist.doctor.child`: does what needs TensorFlow, one JSON object a line in and out."""

import faulthandler
import json
import os
import sys
import time

# The real thing sums many tensors of middling size; each of these is 1 MiB.
_PIECE = 2**18


def load():
    """Loads TensorFlow and Keras; tells versions and devices, without starting the runtime."""
    import keras
    import tensorflow as tf

    from tfdist.strategy import hardware

    gpus = tf.config.list_physical_devices("GPU")
    return {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "cuda": tf.test.is_built_with_cuda(),
        "gpus": [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus],
        "tpu_signs": hardware.tpu_signs(),
    }


def all_reduce(pieces, repeats):
    """Sums known numbers over all replicas, in the way of the gradients; all workers must do so at once.

    Args:
        pieces: number of tensors of 1 MiB.
        repeats: how often, after a first time that does not count.

    Returns:
        replicas, bytes, the shortest time in seconds, and the largest error of a sum.
    """
    import tensorflow as tf

    from tfdist.internals.access.collectives import sum_over_replicas
    from tfdist.internals.access.tracing import compiled
    from tfdist.strategy import choose as strategy

    chosen = strategy.choose_strategy()
    count = chosen.num_replicas_in_sync
    pattern = tf.cast(tf.range(_PIECE) % 7, tf.float32)

    def part():
        rank = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32)
        sums = sum_over_replicas([(pattern + i) * (rank + 1) for i in range(pieces)])
        # Whole numbers, small enough for float32: 1 + … + N times the pattern, and nothing is rounded.
        wanted = [(pattern + i) * (count * (count + 1) // 2) for i in range(pieces)]
        return tf.reduce_max([tf.reduce_max(tf.abs(a - b)) for a, b in zip(sums, wanted, strict=True)])

    def largest_error():
        return tf.reduce_max(tf.stack(chosen.experimental_local_results(chosen.run(part))))

    program = compiled(largest_error)
    times, errors = [], []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        errors.append(float(program().numpy()))
        times.append(time.perf_counter() - start)
    # Whoever is done first would leave the others alone in their last sum.
    time.sleep(1)
    return {"replicas": count, "bytes": 4 * _PIECE * pieces, "seconds": min(times[1:]), "wrong_by": max(errors)}


def dataset(name, split, data_dir, global_batch, replicas, workers):
    """Opens a data set, and tells what each worker would read."""
    from tfdist import data

    source = data.load(name, split=split, data_dir=data_dir, global_batch=global_batch)
    return {
        "lines": data.describe(source, replicas=replicas, workers=workers).splitlines(),
        "files": len(source.reader.files),
    }


COMMANDS = {"load": load, "all_reduce": all_reduce, "dataset": dataset}


def main():
    """Answers until the input ends."""
    # Libraries print; the answers have a way of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        wish = json.loads(line)
        # The parent kills what is late; this is for a parent that was killed itself.
        faulthandler.dump_traceback_later(wish["deadline_seconds"] + 10, exit=True)
        try:
            answer = COMMANDS[wish["command"]](**wish["values"])
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
