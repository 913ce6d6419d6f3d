"""Stands in for `python -m tfdist.train`: it writes a digest, and dies where a kill is planned and nothing is there.

Usage: python fake_train.py [same|other|fails|hangs] FLAGS …
"""

import json
import os
import pathlib
import signal
import sys
import time

HOW, *FLAGS = sys.argv[1:]
(RUN,) = (pathlib.Path(flag.removeprefix("--run_dir=")) for flag in FLAGS if flag.startswith("--run_dir="))

RUN.mkdir(exist_ok=True)
if HOW == "hangs":
    time.sleep(600)
if HOW == "fails":
    print("tfdist.train: no device", file=sys.stderr)
    sys.exit(2)
if "kill" in os.environ.get("TFDIST_FAULTS", "") and HOW != "unkilled":
    (RUN / "checkpoint").touch()
    os.kill(os.getpid(), signal.SIGKILL)
if RUN.name == "killed" and HOW != "unkilled":
    assert (RUN / "checkpoint").exists()
digest = {"undisturbed": "a" * 64, "killed": "a" * 64, "repeated": "a" * 64}
if HOW == "other":
    digest |= {"killed": "b" * 64, "repeated": "c" * 64}
(RUN / "summary.json").write_text(json.dumps({"weights_sha256": digest[RUN.name]}))
