"""Exit codes of tfdist's commands: the launcher and job systems act on them."""

# The user can mend it; the message says how.
MISTAKE = 2
# A signal asked the run to stop: it saved, and the same command goes on. `EX_TEMPFAIL` of sysexits.h.
STOPPED = 75
# Another worker ended or fell silent; this one could not go on without it.
PEER_LOST = 76
# A worker stood still for too long, and was ended; as `timeout` has it.
HUNG = 124
# Ctrl-C, as shells have it; a run that saves has saved.
INTERRUPTED = 130
