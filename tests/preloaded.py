"""What the job server of tests knows more than that of the workflow: snakemake, functions and scripts of tests."""

import base64
import importlib
import pickle
import runpy
import sys

from snakemake.cli import get_argument_parser

from weakseg import job_server

for name in (
    "smart_open", "snakemake.api", "snakemake.executors.local", "snakemake.profiles", "snakemake.report.html_reporter",
    "snakemake.scheduling.greedy", "snakemake.storage", "weakseg.costs", "weakseg.decides", "weakseg.needs",
):  # fmt: skip
    importlib.import_module(name)

# Snakemake looks through all installed packages for its plugins, once in a process.
get_argument_parser()


def call(arguments: list[str]) -> None:
    """Call a function of a test with its arguments, by `warm.begin`."""
    path, pickled = pickle.loads(base64.b64decode(arguments[0]))
    sys.path[:] = path
    function, its_arguments = pickle.loads(pickled)
    function(*its_arguments)


def script(arguments: list[str]) -> None:
    """Run a Python file with its arguments."""
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")


job_server.COMMANDS.update(call=call, script=script)
