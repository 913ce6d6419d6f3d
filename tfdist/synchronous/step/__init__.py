"""The exact step, and its compiled programs."""
