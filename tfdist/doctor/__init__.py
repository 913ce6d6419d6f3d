"""`python -m tfdist.doctor`: some modules read facts about the machine, and pure functions judge them."""
