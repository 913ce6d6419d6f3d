"""When and where a run saves and logs, and whether it resumes."""

import dataclasses
import os

from tfdist.options.checks import check_fields, check_folder
from tfdist.options.fields import documented, option
from tfdist.process.errors import UsageError

RESUMES = ("auto", "never", "must")


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointOptions:
    """When a run saves and resumes, and where. `fit` takes each option by its flag's name: `run_dir`, `resume`, ….

    Several workers need a folder that they share. Without a folder, `fit` saves nothing; `tfdist train` chooses one.

    Example:
        ```python
        import tfdist

        config = tfdist.RunConfig(checkpoints=tfdist.CheckpointOptions(folder="runs/mine", every_steps=1000))
        ```
    """

    folder: str | os.PathLike[str] | None = option(
        None, flag="run_dir", help="The run's folder.", shown="the next free runs/<recipe>-<n>"
    )
    resume: str = option(
        "auto",
        choices=RESUMES,
        help="auto: go on from the newest whole checkpoint in the folder, if it has one; never: refuse a folder that "
        "is not empty; must: require a checkpoint.",
    )
    every_steps: int | None = option(
        None,
        flag="checkpoint_every_steps",
        help="Steps between checkpoints.",
        shown="one at the end of each epoch",
        least=1,
    )
    keep: int = option(
        3, flag="keep_checkpoints", help="How many of the newest checkpoints to keep, beside the best.", least=1
    )
    log_every_steps: int | None = option(
        None,
        help="Steps between the lines in metrics.jsonl and on the screen within an epoch.",
        shown="lines at the end of each epoch alone",
        least=1,
    )
    resume_with_changes: bool = option(
        False,
        help="Go on from a checkpoint even if the data, the model's or the optimizer's settings, or the loss are no "
        "longer those that wrote it: the new ones count, and each change is logged.",
    )

    def __post_init__(self) -> None:
        check_fields(self, also={"folder": "a folder's path"})
        check_folder("run_dir", self.folder)
        if self.resume == "must" and self.folder is None:
            raise UsageError("resume is 'must', but there is no run_dir to resume. Give the folder of the run.")
        if self.resume_with_changes and self.folder is None:
            raise UsageError(
                "resume_with_changes is given, but there is no run_dir to resume. Give the folder of the run."
            )
