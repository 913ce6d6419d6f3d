"""The paths of a model's layers, what each holds itself, and which of it is trained."""

import keras


def layer_paths(model):
    """Returns a list of (path, layer) for every layer, such as ("backbone/conv1", …): parents before their parts."""
    return list(_walk(model, "", set()))


def _walk(parent, prefix, seen):
    for layer in parent._flatten_layers(include_self=False, recursive=False):
        if id(layer) not in seen:
            seen.add(id(layer))
            path = f"{prefix}{layer.name}"
            yield path, layer
            yield from _walk(layer, f"{path}/", seen)


def own_variables(layer):
    """Returns the variables that a layer holds itself, without those of its parts, in Keras' order of saving."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def trainable_state(model):
    """Returns what `restore_trainable` takes: whether each layer and each of its variables is trained."""
    layers = [layer for _, layer in layer_paths(model)]
    variables = [variable for layer in [model, *layers] for variable in own_variables(layer)]
    return [(item, item.trainable) for item in (*layers, *variables)]


def restore_trainable(state):
    """Makes layers and variables trained, or not, as they were: a layer's own setting first, as it sets its parts."""
    for item, trainable in state:
        item.trainable = trainable


def build_optimizer(model):
    """Builds a compiled model's optimizer for the weights that are trainable now; must be called in the scope."""
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def averages_weights(model):
    """Returns whether the model's optimizer keeps moving averages of the weights."""
    return bool(getattr(getattr(model.optimizer, "inner_optimizer", model.optimizer), "use_ema", False))


def takes_lora(layer):
    """Returns whether a layer of Keras' offers low-rank adaptation."""
    return isinstance(layer, keras.layers.Dense | keras.layers.EinsumDense | keras.layers.Embedding)
