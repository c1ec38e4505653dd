"""Settings of a call of the workflow: what `--config` takes, or `config.yaml` holds."""

from typing import Literal

from pydantic import Field

from weakseg.strict import Strict


class Settings(Strict):
    """What a call of the workflow is told besides its targets."""

    study: str = Field("demo", description="Name of a file under config/studies, or the path of a YAML file.")
    results: str = Field("results", description="Folder of all results, from the folder that the study is run in.")
    config_dir: str | None = Field(
        None, description="Folder of the sheets and of `studies`; null: that of the workflow."
    )
    data_root: str | None = Field(None, description="Replaces {data_root} in the paths of a study.")
    seeds: str | None = Field(None, description="How many seeds every experiment runs with, in place of the study's.")
    allow_cpu: Literal["true", "false", True, False] = Field(
        "false", description="Whether a study that needs a GPU may train and score without one."
    )
