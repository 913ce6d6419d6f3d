"""`python -m tfdist.doctor.child`: runs commands that need TensorFlow, whose crash or hang is then only a red line."""

import time

from tfdist.process.child import serve

# As in training, many tensors of medium size are summed: 1 MiB each.
_PIECE = 2**18


def load():
    """Loads TensorFlow and Keras, and returns versions and devices, without starting the runtime."""
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
        "tpu_kernels": hardware.has_tpu_kernels(),
    }


def all_reduce(pieces, repeats):
    """Sums known numbers over all replicas, as training sums gradients; all workers must do so at the same time.

    Args:
        pieces: number of tensors of 1 MiB.
        repeats: number of timed sums, after a warm-up.

    Returns:
        A dict: the number of replicas, the bytes, the shortest time in seconds, and the largest error of a sum.
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
        # 1 + … + N times the pattern: whole numbers that float32 represents exactly.
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
    # Otherwise the first worker to finish could end while the others are still in their last sum.
    time.sleep(1)
    return {"replicas": count, "bytes": 4 * _PIECE * pieces, "seconds": min(times[1:]), "wrong_by": max(errors)}


def dataset(name, split, data_dir, global_batch, replicas, workers):
    """Opens a data set, and returns what each worker would read."""
    from tfdist import data

    source = data.load(name, split=split, data_dir=data_dir, global_batch=global_batch)
    return {
        "lines": data.describe(source, replicas=replicas, workers=workers).splitlines(),
        "files": len(source.reader.files),
    }


COMMANDS = {"load": load, "all_reduce": all_reduce, "dataset": dataset}


def answer(request):
    """Runs a command, and returns its result.

    Args:
        request: {"do": a key of COMMANDS, and the command's arguments}.
    """
    return COMMANDS[request.pop("do")](**request)


if __name__ == "__main__":
    serve(answer)
