"""A model's whole training, evaluation or prediction step as one XLA program, as one chip of a TPU would run it.

A batch has static shapes and the numbers of rows are arguments, so rows that pad the batch are part of every program.
"""

import dataclasses
import functools

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
_ROWS = tf.TensorSpec([], tf.int64)
TOKENS, WORDS, CLASSES = 64, 5000, 10


class OneOfSeveral(tf.distribute.Strategy):
    """One of several replicas that run the same program, as on a TPU: it can be compiled by XLA, but not run.

    It stands in for `TPUStrategy`, whose programs stock TensorFlow lowers for a TPU alone.

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
    return tfdist.models.build("mlp", classes=CLASSES, input_shape=(28, 28, 1), dropout=0.5)


def cnn():
    return tfdist.models.build("cnn", classes=CLASSES, input_shape=(28, 28, 1), batch_norm=True, dropout=0.5)


def lstm():
    layers = [keras.layers.Embedding(WORDS, 64, mask_zero=True), keras.layers.LSTM(64)]
    return _of_words([*layers, keras.layers.Dense(CLASSES, activation="softmax")])


def attention():
    inputs = keras.Input((TOKENS,), dtype="int32")
    x = keras.layers.Embedding(WORDS, 64, mask_zero=True)(inputs)
    x = keras.layers.LayerNormalization()(x + keras.layers.MultiHeadAttention(4, 16)(x, x))
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Dense(128, activation="gelu")(x))
    return keras.Model(inputs, keras.layers.Dense(CLASSES, activation="softmax")(x))


def resnet20():
    return tfdist.models.build("resnet20", classes=CLASSES, input_shape=(32, 32, 3), weight_decay=1e-4)


def resnet50():
    return tfdist.models.build("resnet50", classes=1000, input_shape=(224, 224, 3), weight_decay=1e-4)


def _of_words(layers):
    return keras.Sequential([keras.Input((TOKENS,), dtype="int32"), *layers])


@dataclasses.dataclass(frozen=True)
class TpuProgram:
    """A step of a model on one of several chips.

    Attributes:
        make_model: a function () → a `keras.Model` that classifies, not compiled.
        method: "fit", "evaluate" or "predict".
        rows: the rows of a replica's batch.
        replicas: the number of replicas.
    """

    make_model: object
    method: str
    rows: int = 64
    replicas: int = 1

    def __str__(self):
        """Returns the program's name."""
        chips = "1 chip" if self.replicas == 1 else f"{self.replicas} chips"
        return f"{self.make_model.__name__}, {self.method}, {self.rows} rows, {chips}"

    def hlo(self):
        """Traces the step, and returns it as a serialized `HloModuleProto`."""
        strategy = OneOfSeveral(self.replicas)
        with strategy.scope():
            model = self.make_model()
            model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        (x,) = model.inputs
        batch = _spec(self.rows, x), tf.TensorSpec([self.rows], tf.int32)
        models.build(model, (_spec(None, x), tf.TensorSpec([None], tf.int32)))
        step = Step(model, strategy, StepOptions(jit_compile=False))
        run = functools.partial({"fit": _fit, "evaluate": _evaluate, "predict": _predict}[self.method], model, step)
        # On a TPU BatchNormalization is synchronized on one chip, too.
        with models.batch_norms_synchronized(model, True):
            function = compiled(lambda x, y, *rows: run(Share((x, y), *rows)), jit_compile=True)
            return function.experimental_get_compiler_ir(*batch, _ROWS, _ROWS, _ROWS)(stage="hlo_serialized")


MODELS = (mlp, cnn, lstm, attention, resnet20, resnet50)
PROGRAMS = (
    *(TpuProgram(make_model, method) for make_model in MODELS for method in ("fit", "predict")),
    *(TpuProgram(make_model, "fit", replicas=4) for make_model in (mlp, cnn)),
    TpuProgram(cnn, "evaluate", replicas=4),
)


def _spec(rows, tensor):
    return tf.TensorSpec([rows, *tensor.shape[1:]], tensor.dtype)


def _fit(model, step, share):
    step.train(share, _PADDED, NoClock(), AllReduce())
    step.end_call()
    return step.logs()


def _evaluate(model, step, share):
    step.test(share, _PADDED, NoClock())
    return step.logs()


def _predict(model, step, share):
    # The rest, which takes the padding off, runs on the host.
    with coupled_over_all_rows(model, training=False):
        return run_on_replicas(step.strategy, lambda mine: replica_predict(model, mine, _PADDED), share)
