"""Typed studies, experiments and published figures, read from YAML; unknown keys are refused.

Defaults are written once, in these models. The JSON schemas under `workflow/schemas/` are generated from them
(`weakseg schemas`), and a test fails when they drift.
"""

from weakseg.config.compute import Compute, Precision
from weakseg.config.crf import Boxes, CrfDistances, CrfGrid, CrfSearch
from weakseg.config.dataset import Dataset, Lists, OtherDataset, Role, Scenes
from weakseg.config.experiment import EVERY, Experiment, ExperimentSheet, PaperLists, Stream
from weakseg.config.network import FieldOfView, InitialWeights, Network, Preprocessing, TrunkName
from weakseg.config.paper import Difference, PaperFigure, load_paper
from weakseg.config.reading import DATA_ROOT_VARIABLE, SEEDS_VARIABLE, config_hash, resolve_path
from weakseg.config.settings import Settings
from weakseg.config.solver import Sampling, Solver
from weakseg.config.study import (
    AnnotationPrices,
    Study,
    crf_run,
    estep_runs,
    load_sheet,
    load_study,
    reported_experiments,
    shown_run,
    study_experiments,
    study_path,
    study_tables,
)
from weakseg.config.weights import KnownWeights, WeightsFile, load_weights, named_weights

__all__ = [
    "DATA_ROOT_VARIABLE",
    "EVERY",
    "SEEDS_VARIABLE",
    "AnnotationPrices",
    "Boxes",
    "Compute",
    "CrfDistances",
    "CrfGrid",
    "CrfSearch",
    "Dataset",
    "Difference",
    "Experiment",
    "ExperimentSheet",
    "FieldOfView",
    "InitialWeights",
    "KnownWeights",
    "Lists",
    "Network",
    "OtherDataset",
    "PaperFigure",
    "PaperLists",
    "Precision",
    "Preprocessing",
    "Role",
    "Sampling",
    "Scenes",
    "Settings",
    "Solver",
    "Stream",
    "Study",
    "TrunkName",
    "WeightsFile",
    "config_hash",
    "crf_run",
    "estep_runs",
    "load_paper",
    "load_sheet",
    "load_study",
    "load_weights",
    "named_weights",
    "reported_experiments",
    "resolve_path",
    "shown_run",
    "study_experiments",
    "study_path",
    "study_tables",
]
