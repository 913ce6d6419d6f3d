"""The order in which contenders are measured, and how long; knows nothing of what they are."""

LEAST_STEPS = 8


def order(names, number):
    """Gives the contenders of one round: every second one backwards, so that a drift meets all of them alike."""
    return list(names) if number % 2 == 0 else list(names)[::-1]


def more_steps(steps, measured_seconds, wanted_seconds, multiple=1, least=LEAST_STEPS):
    """Gives how many steps make a call long enough, or no more than ten times as many as before.

    Args:
        steps: of the call that was measured.
        measured_seconds: how long it took.
        wanted_seconds: how long it is to take.
        multiple: of which the number must be one.
        least: how many at least.
    """
    factor = min(10.0, 1.1 * wanted_seconds / max(measured_seconds, 1e-9))
    wanted = max(least, int(steps * factor) + 1)
    return -(-wanted // multiple) * multiple


def calibrate(measure, wanted_seconds, multiple=1, least=LEAST_STEPS):
    """Finds the number of steps that take so long.

    Args:
        measure: a function (steps) → seconds.
        wanted_seconds: how long a measurement is to take.
        multiple: of which the number of steps is to be one: calls that are cut short would count as slow.
        least: how many steps at least.
    """
    steps = more_steps(1, 1.0, 1e-9, multiple, least)
    while (seconds := measure(steps)) < wanted_seconds:
        steps = more_steps(steps, seconds, wanted_seconds, multiple, least)
    return steps


def interleave(measures, rounds):
    """Measures all, round after round.

    Args:
        measures: name → a function () → a sample; None from it for one that cannot go on.
        rounds: how many.

    Returns:
        name → its samples; those that failed have fewer.
    """
    samples = {name: [] for name in measures}
    failed = set()
    for number in range(rounds):
        for name in order(measures, number):
            if name in failed:
                continue
            sample = measures[name]()
            if sample is None:
                failed.add(name)
            else:
                samples[name].append(sample)
    return samples
