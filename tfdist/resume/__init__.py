"""Opens, saves and resumes runs."""
