"""Runs the command in a process of its own."""

from tfdist.process.exits import run_and_leave
from tfdist.report.command import main

run_and_leave(main)
