"""What processes that tests fork have imported already; read by `planning`."""

import gc
import importlib

from snakemake.cli import get_argument_parser

for name in (
    "ipykernel.kernelapp", "nbconvert.exporters.html", "nbconvert.nbconvertapp", "numba", "pandas",
    "papermill.__main__", "requests", "safetensors.torch", "scipy.ndimage", "smart_open", "torch",
    "snakemake.api", "snakemake.executors.local", "snakemake.profiles", "snakemake.report.html_reporter",
    "snakemake.scheduling.greedy", "snakemake.storage",
    "weakseg.cli", "weakseg.costs", "weakseg.decides", "weakseg.evaluate.score", "weakseg.needs",
    "weakseg.report.figures", "weakseg.report.pages", "weakseg.train.loop",
):  # fmt: skip
    importlib.import_module(name)

# Snakemake looks through all installed packages for its plugins, once in a process.
get_argument_parser()

# What is imported stays until the end. To look through it for garbage takes each forked process a third of a second.
gc.collect()
gc.freeze()
