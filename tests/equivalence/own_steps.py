"""Rows of the table: what users write in a `train_step` of their own between the tape and the optimizer."""

import functools

import keras
import tensorflow as tf

WIDTH, CLASSES = 4, 3


def add_own_steps(add):
    """Adds the rows.

    Args:
        add: as in `cases.make_cases`.
    """
    for name, step in STEPS.items():
        for more, options in _OPTIONS.items() if name in _IN_ALL_WAYS else [("", {})]:
            label = f"{name}{more}"
            add("own step", label, functools.partial(own_step_model, step, **options), workers=name in _ON_WORKERS)
    for name, loss in LOSSES.items():
        for how, options in (("", {}), (", XLA", {"jit_compile": True})):
            build = functools.partial(own_loss_model, loss, **options)
            add("own loss", f"compute_loss: {name}{how}", build, workers=not how)


class OwnLossModel(keras.Model):
    """A model whose `compute_loss` is given."""

    def __init__(self, *arguments, loss_of, **more):
        super().__init__(*arguments, **more)
        self.loss_of = loss_of

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return self.loss_of(self, y, y_pred)


def own_loss_model(loss_of, **options):
    keras.utils.set_random_seed(11)
    inputs = keras.Input((WIDTH,))
    x = keras.layers.Dense(5, "tanh", kernel_regularizer=keras.regularizers.L2(0.01))(inputs)
    model = OwnLossModel(inputs, keras.layers.Dense(CLASSES, "softmax")(x), loss_of=loss_of)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), **options)
    return model


class OwnStepModel(keras.Model):
    """A model whose `train_step` is given."""

    def __init__(self, *arguments, step, **more):
        super().__init__(*arguments, **more)
        self.step = step
        self.noise_seed = keras.random.SeedGenerator(3)

    def train_step(self, data):
        return self.step(self, *data)


def own_step_model(step, norm=False, optimizer=None):
    keras.utils.set_random_seed(11)
    inputs = keras.Input((WIDTH,))
    x = keras.layers.Dense(5, "tanh", kernel_regularizer=keras.regularizers.L2(0.01))(inputs)
    x = keras.layers.BatchNormalization(synchronized=True)(x) if norm else x
    model = OwnStepModel(inputs, keras.layers.Dense(CLASSES, "softmax")(x), step=step)
    model.compile(
        optimizer() if optimizer else keras.optimizers.SGD(0.3, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(),
    )
    if step is accumulated:
        state = functools.partial(model.add_weight, initializer="zeros", trainable=False)
        model.sums = [state(shape=weight.shape, aggregation="mean") for weight in model.trainable_variables]
        model.steps = state(shape=(), dtype="int64", aggregation="only_first_replica")
    if step is two_optimizers:
        model.optimizer.build(model.trainable_variables[:2])
        model.other_optimizer = keras.optimizers.Adam(0.05)
        model.other_optimizer.build(model.trainable_variables[2:])
    return model


def of_each_row(y, outputs):
    return keras.losses.sparse_categorical_crossentropy(y, outputs)


def clipped(gradients):
    return tf.clip_by_global_norm(gradients, 0.3)[0]


def with_loss(loss_of, change=clipped):
    """Returns a step with a loss (model, y, outputs), and with gradients that are changed before they are applied."""

    def step(self, x, y):
        with tf.GradientTape() as tape:
            loss = loss_of(self, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(change(gradients), self.trainable_variables)
        return {"a loss": tf.reduce_mean(loss) if loss.shape.rank else loss}

    return step


def of_compile(self, y, outputs):
    return self.compute_loss(y=y, y_pred=outputs)


def perturbed(self, x, y):
    """Sharpness-aware minimization (Foret et al., 2021): the gradient at a point uphill."""
    variables = self.trainable_variables
    with tf.GradientTape() as tape:
        loss = self.compute_loss(y=y, y_pred=self(x, training=True))
    gradients = tape.gradient(loss, variables)
    uphill = [0.1 * gradient / tf.linalg.global_norm(gradients) for gradient in gradients]
    for variable, change in zip(variables, uphill, strict=True):
        variable.assign_add(change)
    with tf.GradientTape() as tape:
        there = self.compute_loss(y=y, y_pred=self(x, training=True))
    gradients = tape.gradient(there, variables)
    for variable, change in zip(variables, uphill, strict=True):
        variable.assign_sub(change)
    self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
    return {"a loss": loss}


def penalized_inputs(critic):
    """Returns a step with a penalty on the gradient of `critic(outputs)` with respect to the inputs."""

    def step(self, x, y):
        with tf.GradientTape() as tape:
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = critic(self(x, training=True)[:, 0])
            slope = inner.gradient(value, x)
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            loss += tf.reduce_mean(tf.square(tf.norm(slope, axis=1) - 1) + tf.reduce_sum(slope * x, axis=1))
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"a loss": loss}

    return step


def penalized_weights(self, x, y):
    """Adds the norm of the gradient with respect to the weights."""
    with tf.GradientTape() as tape:
        with tf.GradientTape() as inner:
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        loss += 0.1 * tf.linalg.global_norm(inner.gradient(loss, self.trainable_variables))
    self.optimizer.apply(clipped(tape.gradient(loss, self.trainable_variables)), self.trainable_variables)
    return {"a loss": loss}


def outputs_with(weights, x):
    return tf.nn.softmax(tf.tanh(x @ weights[0] + weights[1]) @ weights[2] + weights[3])


def adapted(weights, x, y, steps=1):
    """Returns weights after steps of gradient descent."""
    for _ in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = tf.reduce_mean(of_each_row(y, outputs_with(weights, x)))
        weights = [w - 0.3 * g for w, g in zip(weights, tape.gradient(loss, weights), strict=True)]
    return weights


def meta_learned_by_batch(self, x, y):
    """MAML (Finn et al., 2017) whose task is the batch, with two inner steps."""
    with tf.GradientTape() as tape:
        weights = [tf.convert_to_tensor(v.value) for v in self.trainable_variables]
        loss = tf.reduce_mean(of_each_row(y, outputs_with(adapted(weights, x, y, steps=2), x)))
    self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
    return {"a loss": loss}


def meta_learned_by_row(self, x, y):
    """MAML whose tasks are the rows."""
    with tf.GradientTape() as tape:
        weights = [tf.convert_to_tensor(v.value) for v in self.trainable_variables]

        def loss_after(task):
            x, y = task[0][None], task[1][None]
            return tf.reduce_mean(of_each_row(y, outputs_with(adapted(weights, x, y), x)))

        loss = tf.reduce_mean(tf.map_fn(loss_after, (x, y), fn_output_signature=x.dtype))
    self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
    return {"a loss": loss}


def each_row_clipped(self, x, y):
    """Clips the gradient of each row, as differentially private training does (Abadi et al., 2016), without noise."""

    def of_row(row):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(of_each_row(row[1][None], self(row[0][None], training=True)))
        return clipped(tape.gradient(loss, self.trainable_variables))

    gradients = [tf.reduce_mean(each, axis=0) for each in tf.vectorized_map(of_row, (x, y))]
    self.optimizer.apply(gradients, self.trainable_variables)
    return {"a loss": tf.reduce_mean(of_each_row(y, self(x)))}


def in_a_function(self, x, y):
    """Differentiates and clips in a `tf.function` of the user's own, with a branch."""

    @tf.function
    def gradients_of(x, y):
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        if tf.linalg.global_norm(gradients) > 0.3:
            gradients = [0.5 * gradient for gradient in gradients]
        return loss, gradients

    loss, gradients = gradients_of(x, y)
    self.optimizer.apply(gradients, self.trainable_variables)
    return {"a loss": loss}


def accumulated(self, x, y):
    """Accumulates by hand, and applies every other step in a branch."""
    with tf.GradientTape() as tape:
        loss = self.compute_loss(y=y, y_pred=self(x, training=True))
    for total, gradient in zip(self.sums, tape.gradient(loss, self.trainable_variables), strict=True):
        total.assign_add(gradient)
    self.steps.assign_add(1)

    def apply():
        self.optimizer.apply(
            clipped([tf.convert_to_tensor(total) / 2 for total in self.sums]), self.trainable_variables
        )
        for total in self.sums:
            total.assign(tf.zeros_like(total))
        return 0

    tf.cond(self.steps % 2 == 0, apply, lambda: 0)
    return {"a loss": loss}


def projected(self, x, y):
    """Two losses whose gradients are made orthogonal, after PCGrad (Yu et al., 2020), from one persistent tape."""
    with tf.GradientTape(persistent=True) as tape:
        outputs = self(x, training=True)
        one, other = tf.reduce_mean(of_each_row(y, outputs)), tf.reduce_mean(tf.square(outputs))
    pairs = [tape.gradient(loss, self.trainable_variables) for loss in (one, other)]
    gradients = []
    for a, b in zip(*pairs, strict=True):
        product = tf.reduce_sum(a * b)
        gradients.append(tf.where(product < 0, a - product * b / tf.reduce_sum(b * b), a) + b)
    self.optimizer.apply(gradients, self.trainable_variables)
    return {"a loss": one}


def two_optimizers(self, x, y):
    """Two optimizers, each for a part of the weights, and each part clipped."""
    first, second = self.trainable_variables[:2], self.trainable_variables[2:]
    with tf.GradientTape(persistent=True) as tape:
        loss = self.compute_loss(y=y, y_pred=self(x, training=True))
    self.optimizer.apply(clipped(tape.gradient(loss, first)), first)
    self.other_optimizer.apply(clipped(tape.gradient(loss, second)), second)
    return {"a loss": loss}


def without_a_tape(self, x, y):
    """The gradient of the last layer in closed form."""
    outputs = self(x, training=True)
    difference = (outputs - tf.one_hot(y, CLASSES, dtype=outputs.dtype)) / tf.cast(tf.shape(x)[0], outputs.dtype)
    hidden = self.layers[1](x)
    gradients = [tf.matmul(hidden, difference, transpose_a=True), tf.reduce_sum(difference, axis=0)]
    self.optimizer.build(self.trainable_variables)
    self.optimizer.apply([tf.zeros_like(v) for v in self.trainable_variables[:2]] + gradients, self.trainable_variables)
    return {"a loss": tf.reduce_mean(of_each_row(y, outputs))}


def with_noise(self, x, y):
    """Adds noise to the gradients, of which one device draws one."""
    with tf.GradientTape() as tape:
        loss = self.compute_loss(y=y, y_pred=self(x, training=True))
    gradients = clipped(tape.gradient(loss, self.trainable_variables))
    noise = [keras.random.normal(g.shape, stddev=0.01, dtype=g.dtype, seed=self.noise_seed) for g in gradients]
    self.optimizer.apply([g + n for g, n in zip(gradients, noise, strict=True)], self.trainable_variables)
    return {"a loss": loss}


STEPS = {
    "gradients as they are": with_loss(of_compile, change=list),
    "clipped gradients": with_loss(of_compile),
    "sharpness-aware minimization": perturbed,
    "penalty on the slope of each output": penalized_inputs(tf.identity),
    "penalty on the slope of a mean": penalized_inputs(tf.reduce_mean),
    "penalty on the slope of a sum": penalized_inputs(tf.reduce_sum),
    "penalty on the gradients": penalized_weights,
    "MAML by batch": meta_learned_by_batch,
    "MAML by row": meta_learned_by_row,
    "each row's gradient clipped": each_row_clipped,
    "gradients in a tf.function": in_a_function,
    "accumulation by hand": accumulated,
    "projected gradients of two losses": projected,
    "two optimizers": two_optimizers,
    "gradients without a tape": without_a_tape,
    "noise on the gradients": with_noise,
    "loss of each row": with_loss(lambda self, y, outputs: of_each_row(y, outputs)),
    "sum of the rows' losses": with_loss(lambda self, y, outputs: 0.1 * tf.reduce_sum(of_each_row(y, outputs))),
    "half the sum of squares": with_loss(lambda self, y, outputs: 0.1 * tf.nn.l2_loss(outputs)),
    "sum divided by the rows": with_loss(
        lambda self, y, outputs: tf.reduce_sum(of_each_row(y, outputs)) / tf.cast(tf.shape(y)[0], outputs.dtype)
    ),
    "sum of losses divided by the rows": with_loss(
        lambda self, y, outputs: tf.reduce_sum(of_each_row(y, outputs) / tf.cast(tf.size(y), outputs.dtype))
    ),
    "two losses side by side": with_loss(
        lambda self, y, outputs: tf.stack([tf.reduce_mean(of_each_row(y, outputs)), tf.reduce_mean(outputs**2)])
    ),
    "sum over rows and a term of the weights": with_loss(
        lambda self, y, outputs: 0.1 * (tf.reduce_sum(of_each_row(y, outputs)) + 3 * tf.add_n(self.losses))
    ),
    "a sum less a mean over rows": with_loss(
        lambda self, y, outputs: 0.1 * tf.reduce_sum(of_each_row(y, outputs)) - tf.reduce_mean(outputs**2)
    ),
    "Keras' loss with reduction=sum": with_loss(
        lambda self, y, outputs: 0.1 * keras.losses.SparseCategoricalCrossentropy(reduction="sum")(y, outputs)
    ),
    "Keras' loss over the weights": with_loss(
        lambda self, y, outputs: keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight")(
            y, outputs, sample_weight=tf.cast(y + 1, outputs.dtype)
        )
    ),
}
LOSSES = {
    "a sum over rows": lambda self, y, outputs: tf.reduce_sum(of_each_row(y, outputs)),
    "a sum, a mean, a term of the weights": lambda self, y, outputs: (
        tf.reduce_sum(of_each_row(y, outputs)) - tf.reduce_mean(outputs**2) + 3 * tf.add_n(self.losses)
    ),
}
_IN_ALL_WAYS = {"clipped gradients", "sharpness-aware minimization", "loss of each row"}
_OPTIONS = {
    "": {},
    ", BatchNormalization": {"norm": True},
    ", accumulation + global_clipnorm": {
        "optimizer": lambda: keras.optimizers.SGD(0.3, gradient_accumulation_steps=2, global_clipnorm=0.2)
    },
    ", LossScaleOptimizer": {"optimizer": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.02))},
    ", averages over the weights": {
        "optimizer": lambda: keras.optimizers.SGD(0.3, use_ema=True, ema_overwrite_frequency=3, weight_decay=0.01)
    },
}
_ON_WORKERS = {
    "clipped gradients",
    "sharpness-aware minimization",
    "MAML by batch",
    "accumulation by hand",
    "noise on the gradients",
}
