"""A comparison's findings as text: a table with one line per case, and the likely cause."""

import textwrap

from tfdist.verify.compare import QUANTITIES

_WIDTH = 11


def describe(report, name):
    """Returns the whole text for a `Comparison`; `name` is the name of the verified function."""
    lines = [
        f"{name}: {report.replicas} replicas against Keras on one device, in {report.dtype}.",
        *map(_wrapped, _notes(report)),
        "",
        *_table(report),
        "",
        *map(_wrapped, _verdict(report)),
    ]
    return "\n".join(lines)


def _wrapped(paragraph):
    return textwrap.fill(paragraph, 110, break_on_hyphens=False)


def _notes(report):
    if report.not_float64:
        yield f"Not in float64, because there the model fails: {report.not_float64}"
    if report.random_layers:
        names = ", ".join(report.random_layers)
        yield f"Random layers, called as in inference because replicas must differ in them: {names}."


def _table(report):
    heads = ["rows", *QUANTITIES]
    yield "".join(head.rjust(_WIDTH) for head in heads) + "   largest difference, relative"
    for result in report.results:
        yield str(result.rows).rjust(_WIDTH) + "".join(_cells(result)) + f"   {_outcome(result, report)}"
    limits = ["-" if (limit := report.tolerances[name]) is None else _number(limit) for name in QUANTITIES]
    yield "tolerance".rjust(_WIDTH) + "".join(limit.rjust(_WIDTH) for limit in limits)


def _cells(result):
    for name in QUANTITIES:
        difference = result.differences.get(name)
        text = _number(difference.size) if difference and difference.exists else "-"
        yield text.rjust(_WIDTH)


def _number(size):
    return f"{size:.1e}" if size else "0"


def _outcome(result, report):
    if result.error:
        return f"FAILS: {result.error}"
    if not report.certain:
        return "cannot be compared"
    differing = result.differing(report.tolerances)
    return f"DIFFERS, first in {first(result, differing)}" if differing else "equal"


def first(result, differing):
    """Returns what differs first: a layer's output, or else the loss, a gradient, a weight or a metric."""
    if result.first_layer and {"loss", "gradients"} & {*differing}:
        return f"the output of layer {result.first_layer}"
    name = differing[0]
    where = result.differences[name].where
    return {
        "loss": "the loss: the outputs of all layers agree",
        "gradients": f"the gradient of {where}: outputs and loss agree",
        "weights": f"weight {where}: the gradients agree",
        "metrics": f"metric {where}: the weights agree",
    }[name]


def _verdict(report):
    if not report.certain:
        yield (
            "One device itself gives another result when the rows of a batch come in another order: the model draws "
            "random numbers, or its rows depend on their neighbours. Nothing can be compared. Make build_fn return a "
            "model without that (a custom random layer: give it a keras.random.SeedGenerator of its own, and make "
            "training=False switch it off)."
        )
    elif report.equal:
        yield "Equal: the replicas give what one device gives."
    else:
        yield f"Not equal. {cause(report)}"
    if report.tolerances["weights"] is None:
        yield (
            "The weights cannot be compared: on one device too, the order of a batch's rows changes them (a gradient "
            "that is only rounding, and an optimizer that makes full steps of it)."
        )


def cause(report):
    """Returns a text: the likely cause of a difference, and what to do."""
    wrong = [result for result in report.results if not result.equal(report.tolerances)]
    result = wrong[0]
    if result.error:
        return "The replicas fail where one device does not: see the message above."
    if report.explanations:
        return " ".join(f"{line[:1].upper()}{line[1:]}" for line in report.explanations)
    differing = result.differing(report.tolerances)
    if result.first_layer and {"loss", "gradients"} & {*differing}:
        return _cause_in_layer(result.first_layer, report.batch_norms)
    if {"loss", "gradients"} & {*differing}:
        return _cause_in_step(result, report)
    if "metrics" in differing and "weights" not in differing:
        return (
            f"Metric {result.differences['metrics'].where!r} is not made of sums over rows. Accumulate sums and counts "
            "in its variables in update_state, and divide in result."
        )
    return (
        "The gradients agree and the weights do not: something besides the compiled optimizer changes weights or "
        "depends on the batch. Update weights through self.optimizer.apply(gradients, variables) alone."
    )


def _cause_in_layer(layer, batch_norms):
    if layer in batch_norms:
        return (
            f"BatchNormalization {layer!r} takes its statistics over the rows of its own replica. Leave tfdist.fit's "
            "sync_batchnorm on, or make it with synchronized=True."
        )
    return (
        f"Layer {layer!r} gives other outputs for the same rows: it computes over the rows of its own replica, such as "
        "batch statistics. Compute them from the rows of all replicas, by tfdist.global_sum or tfdist.gather_rows."
    )


def _cause_in_step(result, report):
    rule = (
        "On its rows, a replica must compute what one device would compute on them: the mean over these rows. tfdist "
        "weights it by the rows, and sums gradients over the replicas once."
    )
    where = "train_step" if report.own_train_step else "loss"
    multiple = result.ratio
    if multiple is not None and abs(multiple * report.replicas - 1) < 0.01:
        return (
            f"The gradients are 1/{report.replicas} of one device's: the loss is divided by the wrong batch, the "
            f"global one or a constant. Divide by the rows of y. {rule}"
        )
    if multiple is not None and abs(multiple / report.replicas - 1) < 0.01:
        return (
            f"The gradients are {report.replicas} times one device's: the {where} multiplies by the number of "
            f"replicas, or sums over the replicas what tfdist sums again. {rule}"
        )
    if result.rows % report.replicas:
        return (
            "Even batches agree and uneven ones do not: all replicas have the same weight, whatever their numbers of "
            f"rows. {rule}"
        )
    if multiple is not None and abs(multiple - 1) > 0.01:
        return f"The gradients are {multiple:.3g} times one device's: the {where} is scaled. {rule}"
    return (
        f"The layers agree, and the {where} computes another loss or gradient from them: its denominator is wrong. "
        f"{rule}"
    )
