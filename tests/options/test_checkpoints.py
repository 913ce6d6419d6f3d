"""The options of checkpoints are checked when they are made; messages name what `fit` and the flags are given."""

import pathlib

import pytest

from tfdist.options.checkpoints import RESUMES, CheckpointOptions


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"resume": True}, "resume is True. Use one of auto, never, must."),
        ({"resume_with_changes": "yes"}, "resume_with_changes is 'yes'. Use True or False."),
        ({"resume": "must"}, "resume is 'must', but there is no run_dir to resume. Give the folder of the run."),
        (
            {"resume_with_changes": True},
            "resume_with_changes is given, but there is no run_dir to resume. Give the folder of the run.",
        ),
        ({"every_steps": 2.0}, "checkpoint_every_steps is 2.0. Use a whole number from 1."),
        ({"every_steps": 0}, "checkpoint_every_steps is 0. Use a whole number from 1."),
        ({"log_every_steps": 0}, "log_every_steps is 0. Use a whole number from 1."),
        ({"keep": None}, "keep_checkpoints is None. Use a whole number from 1."),
        ({"keep": 0}, "keep_checkpoints is 0. Use a whole number from 1."),
        (
            {"folder": "s3://a/b"},
            "run_dir is s3://a/b. Only folders of mounted file systems can be used: mount it, or copy it.",
        ),
        ({"folder": ""}, "run_dir is empty. Give a folder, or leave it out."),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_flag(fields, message):
    with pytest.raises(ValueError) as error:
        CheckpointOptions(**fields)
    assert str(error.value) == message


@pytest.mark.parametrize("resume", RESUMES)
def test_each_way_to_resume_is_taken_with_a_folder(resume):
    options = CheckpointOptions(folder=pathlib.Path("a"), resume=resume, every_steps=5, keep=1)
    assert (options.resume, options.every_steps, options.keep) == (resume, 5, 1)
