"""The order in which files of tests start, where several processes share them."""

# Those that take a minute or more, the longest first: a process that begins one of them last works while others idle.
LONGEST = (
    "tests/equivalence/test_equivalence.py",
    "tests/feeding/test_inputs.py",
    "tests/chaos/test_faults_in_training.py",
    "tests/test_docs.py",
    "tests/training/test_call_length.py",
    "tests/training/test_multi_worker.py",
    "tests/training/test_fit.py",
    "tests/resume/test_saved_run.py",
    "tests/verify/test_command.py",
    "tests/test_recipes.py",
    "tests/train/test_runs.py",
    "tests/gradients/test_factors.py",
    "tests/launch/test_launch.py",
    "tests/models/test_models.py",
    "tests/doctor/acceptance/test_kinds.py",
    "tests/training/test_keras_trainer_tests.py",
    "tests/test_notebooks.py",
    "tests/full/test_gpu_kernels.py",
)


def place_of(test):
    """Returns the place of a test's file, by the test's id: that in `LONGEST`, or after all of these."""
    name = test.partition("::")[0]
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)
