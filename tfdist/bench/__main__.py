"""Runs the command in a process of its own."""

from tfdist.bench.command import main
from tfdist.process.exits import run_and_leave

run_and_leave(main)
