"""Schedulers, one file each: their environment variables → hosts and tasks."""
