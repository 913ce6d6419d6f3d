"""Decides the order and the length of the measurements of contenders, whatever those are."""

LEAST_STEPS = 8


def order(names, number):
    """Returns the contenders of one round: every second one backwards, so that a drift affects all of them equally."""
    return list(names) if number % 2 == 0 else list(names)[::-1]


def more_steps(steps, measured_seconds, wanted_seconds, multiple=1, least=LEAST_STEPS):
    """Returns how many steps make a call long enough, at most about ten times as many as before.

    Args:
        steps: the steps of the call that was measured.
        measured_seconds: the time that it took.
        wanted_seconds: the time that a call must take.
        multiple: the number is a multiple of this.
        least: the minimum number.
    """
    factor = min(10.0, 1.1 * wanted_seconds / max(measured_seconds, 1e-9))
    wanted = max(least, int(steps * factor) + 1)
    return -(-wanted // multiple) * multiple


def calibrate(measure, wanted_seconds, multiple=1, least=LEAST_STEPS):
    """Finds a number of steps that takes at least the wanted time.

    Args:
        measure: a function (steps) → seconds.
        wanted_seconds: the time that a measurement must take.
        multiple: the number is a multiple of this, because calls that are cut short would count as slow.
        least: the minimum number.
    """
    steps = more_steps(1, 1.0, 1e-9, multiple, least)
    while (seconds := measure(steps)) < wanted_seconds:
        steps = more_steps(steps, seconds, wanted_seconds, multiple, least)
    return steps


def interleave(measures, rounds, tell=lambda line: None):
    """Measures all contenders, round after round.

    Args:
        measures: name → a function () → a sample, or None if it cannot continue.
        rounds: the number of rounds.
        tell: a function that shows a line about the progress.

    Returns:
        name → its samples; those that failed have fewer.
    """
    samples = {name: [] for name in measures}
    failed = set()
    for number in range(rounds):
        tell(f"bench: round {number + 1} of {rounds}.")
        for name in order(measures, number):
            if name in failed:
                continue
            sample = measures[name]()
            if sample is None:
                failed.add(name)
            else:
                samples[name].append(sample)
    return samples
