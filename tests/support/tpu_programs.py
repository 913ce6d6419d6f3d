"""A model's whole training, evaluation or prediction step as one XLA program, as one chip of a TPU would run it.

A batch has static shapes and the numbers of rows are arguments, so rows that pad the batch are part of every program.
"""

import dataclasses
import functools
from collections.abc import Callable

import keras
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops
from tensorflow.python.distribute import distribute_lib, one_device_strategy

import tfdist
from tfdist.data.delivery.share import Form, Share
from tfdist.internals.access import models
from tfdist.internals.access.tracing import compiled
from tfdist.internals.patches.coupled import coupled_over_all_rows
from tfdist.options.step import StepOptions
from tfdist.strategy.replicas import run_on_replicas
from tfdist.synchronous.exchange.exchange import AllReduce
from tfdist.synchronous.step.measurements import NoClock
from tfdist.synchronous.step.step import Step, replica_predict

_PADDED = Form(may_be_empty=False, padded=True)
TOKENS, WORDS, CLASSES = 64, 5000, 10


class OneOfSeveral(tf.distribute.Strategy):
    """One of several replicas that run the same program, compiled by XLA; only a single one can run on a CPU.

    It stands in for `TPUStrategy`, whose sum over the replicas stock TensorFlow lowers for a TPU alone.

    Args:
        replicas: the number of replicas.
    """

    def __init__(self, replicas):
        super().__init__(_Extended(self, replicas))


class _Extended(one_device_strategy.OneDeviceExtended):
    def __init__(self, strategy, replicas):
        super().__init__(strategy, "CPU:0")
        self._replicas = replicas

    @property
    def _num_replicas_in_sync(self):
        return self._replicas

    def _call_for_each_replica(self, fn, args, kwargs):
        replica = gen_xla_ops.xla_replica_id()
        with distribute_lib.ReplicaContext(self._container_strategy(), replica_id_in_sync_group=replica):
            return fn(*args, **kwargs)

    def _replica_ctx_all_reduce(self, reduce_op, value, options=None):
        groups, names = [list(range(self._replicas))], {tf.distribute.ReduceOp.SUM: "Add"}
        reduce = functools.partial(
            gen_xla_ops.xla_all_reduce, group_assignment=groups, reduce_op=names[reduce_op], mode="CrossReplica"
        )
        return tf.nest.map_structure(reduce, value)


def mlp():
    return _of_tfdist("mlp", (28, 28, 1), dropout=0.5)


def cnn():
    return _of_tfdist("cnn", (28, 28, 1), batch_norm=True, dropout=0.5)


def lstm():
    inputs = keras.Input((TOKENS,), dtype="int32")
    x = keras.layers.LSTM(64)(keras.layers.Embedding(WORDS, 64, mask_zero=True)(inputs))
    return compile_classifier(keras.Model(inputs, keras.layers.Dense(CLASSES, activation="softmax")(x)))


def attention():
    inputs = keras.Input((TOKENS,), dtype="int32")
    x = keras.layers.Embedding(WORDS, 64, mask_zero=True)(inputs)
    x = keras.layers.LayerNormalization()(x + keras.layers.MultiHeadAttention(4, 16)(x, x))
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Dense(128, activation="gelu")(x))
    return compile_classifier(keras.Model(inputs, keras.layers.Dense(CLASSES, activation="softmax")(x)))


def resnet20():
    return _of_tfdist("resnet20", (32, 32, 3), weight_decay=1e-4)


def resnet50():
    return _of_tfdist("resnet50", (224, 224, 3), classes=1000, weight_decay=1e-4)


def _of_tfdist(name, shape, *, classes=CLASSES, **options):
    return compile_classifier(tfdist.models.build(name, classes=classes, input_shape=shape, **options))


def compile_classifier(model, optimizer="adam"):
    """Compiles a model that classifies, and returns it."""
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@dataclasses.dataclass(frozen=True)
class TpuProgram:
    """A step of a model on one of several chips.

    Attributes:
        make_model: a function () → a compiled `keras.Model` that classifies.
        method: "fit", "evaluate" or "predict".
        rows: the rows of a replica's batch, those that pad it included.
        replicas: the number of replicas.
    """

    make_model: Callable[[], keras.Model]
    method: str
    rows: int
    replicas: int = 1

    def __str__(self):
        """Returns the program's name."""
        chips = "1 chip" if self.replicas == 1 else f"{self.replicas} chips"
        return f"{self.make_model.__name__}, {self.method}, {self.rows} rows, {chips}"

    def trace(self):
        """Returns (the model, a function (x, y, replica_rows, global_rows, first_row) that XLA compiles)."""
        strategy = OneOfSeveral(self.replicas)
        with strategy.scope():
            model = self.make_model()
        models.build(model, self._batch(model, None))
        step = Step(model, strategy, StepOptions(jit_compile=False))
        run = functools.partial({"fit": _fit, "evaluate": _evaluate, "predict": _predict}[self.method], model, step)
        function = compiled(lambda x, y, *rows: run(Share((x, y), *rows)), jit_compile=True)
        # On a TPU BatchNormalization is synchronized on one chip, too.
        with models.batch_norms_synchronized(model, True):
            function.get_concrete_function(*self._arguments(model))
        return model, function

    def hlo(self):
        """Returns the program as a serialized `HloModuleProto`."""
        model, function = self.trace()
        return function.experimental_get_compiler_ir(*self._arguments(model))(stage="hlo_serialized")

    def _arguments(self, model):
        return *self._batch(model, self.rows), *[tf.TensorSpec([], tf.int64)] * 3

    def _batch(self, model, rows):
        (x,) = model.inputs
        return tf.TensorSpec([rows, *x.shape[1:]], x.dtype), tf.TensorSpec([rows], tf.int32)


SMALL = (mlp, cnn, lstm, attention)
PROGRAMS = (
    *(TpuProgram(make_model, method, 64) for make_model in SMALL for method in ("fit", "predict")),
    TpuProgram(resnet20, "predict", 64),
    *(TpuProgram(make_model, "fit", 64, replicas=4) for make_model in (mlp, cnn)),
    TpuProgram(cnn, "evaluate", 64, replicas=4),
    # The compiler takes minutes for these.
    TpuProgram(resnet20, "fit", 64),
    *(TpuProgram(resnet50, method, 64) for method in ("fit", "predict")),
)


def _fit(model, step, share):
    step.train(share, _PADDED, NoClock(), AllReduce())
    return step.end_call()


def _evaluate(model, step, share):
    step.test(share, _PADDED, NoClock())
    return step.logs()


def _predict(model, step, share):
    # The rest, which takes the padding off, runs on the host.
    with coupled_over_all_rows(model, training=False):
        return run_on_replicas(step.strategy, lambda mine: replica_predict(model, mine, _PADDED), share)
