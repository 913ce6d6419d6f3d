"""The batch script, in a real bash with a stand-in for `srun`; tests/full/slurm.py runs it under a real Slurm."""

import re

import pytest
from support.scripts import NOTHING, run_script

from tfdist.jobs import JobConfig, job_text

CONFIG = JobConfig(target="slurm", name="digits", max_restarts=2, run_dir="/runs/1", command=("-m", "tfdist.train"))
PROGRAMS = {"scontrol": '#!/bin/bash\necho "scontrol $*"\n', "sleep": NOTHING}


def run(code, folder, restarts=None):
    programs = PROGRAMS | {"srun": f'#!/bin/bash\necho "srun $*"\nexit {code}\n'}
    environ = {"SLURM_JOB_ID": "7"} | ({} if restarts is None else {"SLURM_RESTART_COUNT": str(restarts)})
    return run_script(job_text(CONFIG), folder, programs, environ=environ)


def test_the_step_is_the_command_and_one_worker_that_ends_leaves_the_others_time_to_save(tmp_path):
    ended = run(0, tmp_path)
    step = "srun --kill-on-bad-exit=0 --wait=120 --label python -m tfdist.train --run_dir=/runs/1\n"
    assert (ended.code, ended.out, ended.err) == (0, step, "")


@pytest.mark.parametrize(
    ("code", "restarts", "again"),
    [
        (0, None, False),
        (2, None, False),
        (77, None, False),
        (75, None, True),
        (75, 9, True),
        (76, None, True),
        (76, 1, True),
        (76, 2, False),
        (1, 0, True),
        (124, 2, False),
        (137, 1, True),
    ],
)
def test_the_job_is_queued_again_after_codes_that_ask_for_it(code, restarts, again, tmp_path):
    ended = run(code, tmp_path, restarts)
    assert (ended.code, "scontrol requeue 7\n" in ended.out) == (code, again)
    assert ended.err == (f"exit code {code}: the job is queued again\n" if again else "")


def test_the_flags_come_before_the_first_command_because_slurm_reads_no_later_ones():
    lines = job_text(CONFIG).splitlines()
    first = next(place for place, line in enumerate(lines) if line and not line.startswith("#"))
    flags = [place for place, line in enumerate(lines) if re.fullmatch(r"#SBATCH --[a-z-]+(=\S+)?", line)]
    assert len(flags) == sum("SBATCH" in line for line in lines) == 7
    assert max(flags) < first
