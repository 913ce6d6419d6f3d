"""Small trainings that give their weights: the same function runs under every strategy, and in plain Keras."""

import contextlib
import itertools
import logging

import keras
import numpy as np
import tensorflow as tf

import tfdist
from tfdist.callbacks.base import Callback
from tfdist.data.sources.arrays import from_arrays

ROWS, WIDTH, CLASSES = 103, 4, 3


def make_rows(rows=ROWS, dtype="float64"):
    """Returns x (rows, WIDTH) and y (rows,), a classification that an MLP can learn."""
    x = np.random.RandomState(0).randn(rows, WIDTH)
    y = (x.sum(1) > 0).astype("int32") + (x[:, 0] > 0.5).astype("int32")
    return x.astype(dtype), y


def make_mlp(optimizer=None, *, batch_norm=False):
    """Returns a compiled MLP, with the same weights each time."""
    keras.utils.set_random_seed(7)
    layers = [
        keras.Input((WIDTH,)),
        keras.layers.Dense(8, activation="tanh", kernel_regularizer=keras.regularizers.L2(1e-2)),
        *([keras.layers.BatchNormalization()] if batch_norm else []),
        keras.layers.Dense(CLASSES, activation="softmax"),
    ]
    model = keras.Sequential(layers)
    model.compile(
        optimizer or keras.optimizers.SGD(0.2, momentum=0.9),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def make_batchnorm_mlp():
    """Returns the MLP with BatchNormalization."""
    return make_mlp(batch_norm=True)


def make_eager_mlp():
    """Returns the MLP, to be run without a compiled step."""
    model = make_mlp()
    model.run_eagerly = True
    return model


def make_loss_scaling_mlp():
    """Returns the MLP with a `LossScaleOptimizer`, accumulation left out."""
    return make_mlp(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.2, momentum=0.9)))


def make_wide_mlp():
    """Returns a compiled MLP whose first weight is larger than its factors for `wide_source`."""
    keras.utils.set_random_seed(7)
    hidden = keras.layers.Dense(256, activation="tanh", kernel_regularizer=keras.regularizers.L2(1e-3))
    model = keras.Sequential([keras.Input((128,)), hidden, keras.layers.Dense(CLASSES, activation="softmax")])
    model.compile(keras.optimizers.SGD(0.2, momentum=0.9, global_clipnorm=0.5), "sparse_categorical_crossentropy")
    return model


def wide_source():
    """Returns 43 rows of 128 numbers in batches of 10."""
    x = np.random.RandomState(0).randn(43, 128)
    return from_arrays(x, (x.sum(1) > 0).astype("int32"), global_batch=10)


def make_embedding_mlp():
    """Returns a compiled model that looks tokens up, whose optimizer treats a dense gradient otherwise."""
    keras.utils.set_random_seed(7)
    body = [keras.layers.Embedding(9, 4), keras.layers.GlobalAveragePooling1D()]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *body, keras.layers.Dense(CLASSES, "softmax")])
    model.compile(keras.optimizers.Adam(0.05, global_clipnorm=0.5), "sparse_categorical_crossentropy")
    return model


def token_sources():
    """Returns data by name: 103 rows of 5 tokens in batches of 34, and the same where nobody knows this before."""
    x = np.random.RandomState(0).randint(0, 9, (ROWS, 5))
    y = x[:, 0] % CLASSES
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(34)
    return {"arrays": from_arrays(x, y, global_batch=34, shuffle=False), "tf.data": batches}


def overflowing_source():
    """Returns rows in their order, of which the 20th makes infinite gradients."""
    x, y = make_rows()
    x[19] = np.inf
    return from_arrays(x, y, global_batch=20, shuffle=False)


def tf_data(seed):
    """Returns a `tf.data` set, shuffled."""
    return tf.data.Dataset.from_tensor_slices(make_rows()).shuffle(ROWS, seed=seed).batch(20)


@contextlib.contextmanager
def lines_of_tfdist(level=logging.INFO):
    """Keeps what tfdist says, from that level on."""
    said = []
    handler = logging.Handler(level)
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("tfdist")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def uneven_shards():
    """Returns data of which worker 0 brings 10 rows, and any other 4, in batches of 3."""

    def make_dataset(context):
        x, y = make_rows()
        mine = slice(10, 14) if context.input_pipeline_id else slice(0, 10)
        return tf.data.Dataset.from_tensor_slices((x[mine], y[mine])).batch(3)

    return tfdist.data.from_function(make_dataset)


def rows_of_uneven_shards():
    """Returns the same batches as two workers have them together: 6, 4, 3 and 1 rows."""
    order = [0, 1, 2, 10, 11, 12, 3, 4, 5, 13, 6, 7, 8, 9]
    x, y = (part[order] for part in make_rows())
    cuts = [0, 6, 10, 13, 14]
    return [(x[low:high], y[low:high]) for low, high in itertools.pairwise(cuts)]


def weights_of(model):
    """Returns all weights in one vector."""
    return np.concatenate([np.asarray(weight).ravel() for weight in model.weights])


def train(strategy, source, *, epochs=2, make_model=make_mlp, **arguments):
    """Trains with `tfdist.fit` on a strategy; returns (model, history)."""
    with strategy.scope():
        model = make_model()
    # The total number of steps stands in place of the epochs.
    length = {} if "steps" in arguments else {"epochs": epochs}
    history = tfdist.fit(model, source, verbose=0, **length, **arguments)
    return model, history.history


def train_plainly(source, *, epochs=2, make_model=make_mlp):
    """Trains with Keras' own `fit` on one device, on the same global batches; returns (model, history)."""
    model = make_model()
    history = {}
    for epoch in range(epochs):
        logs = model.fit(source.dataset(epoch), shuffle=False, verbose=0).history
        for name, values in logs.items():
            history.setdefault(name, []).extend(values)
    return model, history


def train_by_hand(strategy, source, *, mean=tfdist.global_mean, epochs=2):
    """Trains with the loop of the README, with global clipping; returns the model and the last loss."""
    with strategy.scope():
        model = make_mlp()
        optimizer = keras.optimizers.SGD(0.5, momentum=0.9, global_clipnorm=0.3)
        optimizer.build(model.trainable_variables)
    loss_fn = keras.losses.SparseCategoricalCrossentropy(reduction=None)

    @tf.function(reduce_retracing=True)
    def train_step(x, y):
        with tf.GradientTape() as tape:
            rows = loss_fn(y, model(x, training=True))
            loss = mean(rows) + tfdist.regularization(model)
        gradients = tape.gradient(loss, model.trainable_variables)
        tfdist.apply_gradients(optimizer, gradients, model.trainable_variables)
        return loss

    for epoch in range(epochs):
        for x, y in source.distribute(strategy, epoch):
            loss = strategy.run(train_step, args=(x, y))
    return model, strategy.experimental_local_results(loss)[0].numpy()


def mean_of_replica(rows):
    """A planted fault: the mean that each replica would take alone, divided by two replicas."""
    return tf.math.divide_no_nan(tf.reduce_sum(rows), tf.cast(tf.size(rows), rows.dtype)) / 2


def keras_callbacks(folder):
    """Returns Keras' own callbacks, those that decide and those that write."""
    folder.mkdir(parents=True, exist_ok=True)
    callbacks = keras.callbacks
    return [
        callbacks.EarlyStopping(monitor="val_loss", patience=1, restore_best_weights=True),
        callbacks.ReduceLROnPlateau(monitor="val_loss", patience=0, factor=0.5),
        callbacks.LearningRateScheduler(lambda epoch, rate: rate * 1.3),
        callbacks.TerminateOnNaN(),
        callbacks.ModelCheckpoint(folder / "best.keras", save_best_only=True),
        callbacks.CSVLogger(folder / "log.csv"),
        callbacks.TensorBoard(folder / "tensorboard", write_graph=False),
    ]


def train_with_callbacks(strategy, callbacks, *, fit=tfdist.fit, epochs=8):
    """Trains with callbacks and validation; returns (model, history)."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = make_mlp(keras.optimizers.SGD(1.0, momentum=0.9))
    x, y = make_rows()
    try:
        history = fit(
            model,
            x[:80],
            y[:80],
            batch_size=20,
            epochs=epochs,
            shuffle=False,
            validation_data=(x[80:], y[80:]),
            callbacks=callbacks,
            verbose=0,
        )
    except StopIteration:
        return model, {}
    return model, history.history


class StepsSeen(Callback):
    """Keeps the steps after which calls end."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_step_end(self, step, logs=None):
        """Notes the step."""
        self.seen.append(step)


class Interrupting(keras.callbacks.Callback):
    """Ends a training with an exception at the beginning of its fourth epoch, on every worker."""

    every_worker = True

    def on_epoch_begin(self, epoch, logs=None):
        """Raises."""
        if epoch == 3:
            raise StopIteration


def backup(folder):
    """Returns the callback that saves each epoch and goes on from there."""
    return [keras.callbacks.BackupAndRestore(folder / "backup")]


def file_sources(folder, global_batch=5):
    """Returns a source of each kind of file; row i is an image of colour 10 i."""
    order = {"global_batch": global_batch, "seed": 3}
    shape = {"image_size": (6, 8)}
    return {
        "tfds": tfdist.data.load("tiny_set", data_dir=folder / "tfds", **order),
        "images": tfdist.data.load("images", data_dir=folder / "images", **shape, **order),
        "records": tfdist.data.load("records", data_dir=folder / "records", **shape, **order),
    }


def rows_seen(strategy, source):
    """Gives, batch by batch, the numbers of the rows that this process saw in an epoch, by their colour."""
    seen = []
    for images, _ in source.distribute(strategy):
        for part in strategy.experimental_local_results(images):
            seen.append(np.rint(part.numpy()[:, 0, 0, 0] * 255 / 10).astype(int))
    return np.concatenate(seen)


@contextlib.contextmanager
def double_precision():
    """Makes Keras work in float64 for a while."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


def small_source(global_batch=20, **order):
    """Returns the rows of `make_rows` as a `Source`."""
    return from_arrays(*make_rows(), global_batch=global_batch, seed=3, **order)
