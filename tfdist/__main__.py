"""`tfdist COMMAND …`, the same as `python -m tfdist.COMMAND …`."""

import os
import sys

from tfdist.process.log import show
from tfdist.process.nearest import did_you_mean

# Command → what the help says of it.
COMMANDS = {
    "train": "train a model by flags or a recipe, into a run's folder",
    "launch": "start, watch, stop and restart several workers, here or over ssh",
    "doctor": "is all well for a run here? in a cluster, on every worker at once",
    "verify": "does a model of yours train on N replicas as on one device?",
    "bench": "how fast is a model, and what is faster beside tfdist?",
    "report": "one page about a run, or about several beside each other, also while it goes on",
    "jobs": "write the text of a job for Slurm, Kubernetes, Kubeflow or Azure ML",
    "models": "which models come with tfdist, how large are they, and what do they take?",
}
# What is a flag of a command, but looked for by itself.
_MEANT = {"acceptance": " Did you mean python -m tfdist.doctor --acceptance?"}


def main(arguments=None):
    """Runs a command in this process's place; returns the exit code where there is none to run.

    Args:
        arguments: the command's name and its flags; by default those of this process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("help", "-h", "--help"):
        show(usage())
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        hint = _MEANT.get(name) or did_you_mean(name, COMMANDS)
        print(f"tfdist: there is no command {name!r}.{hint} Use one of {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    # In place of this process: signals, exit codes and the end of the process are the command's own.
    os.execv(sys.executable, [sys.executable, "-m", f"tfdist.{name}", *rest])


def usage():
    """Returns the text of the help."""
    width = max(map(len, COMMANDS))
    lines = (f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return "\n".join(["Usage: tfdist COMMAND [flags]; tfdist COMMAND --help", "", *lines])


if __name__ == "__main__":
    raise SystemExit(main())
