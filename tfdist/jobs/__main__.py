"""Runs the command."""

from tfdist.jobs.command import main

raise SystemExit(main())
