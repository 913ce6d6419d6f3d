"""One file a scheduler: its variables → hosts and tasks."""
