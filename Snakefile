"""`snakemake` makes the report of the demo study; see README.md for the other targets, workflow/ for the rules."""


include: "workflow/Snakefile"


# An included file cannot say what the default is.
rule all:
    """The configured study's report, which is the default of workflow/Snakefile too."""
    input:
        rules.report.input,
