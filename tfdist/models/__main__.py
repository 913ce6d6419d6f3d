"""Runs the command."""

from tfdist.models.listing import main

raise SystemExit(main())
