"""The study, end to end: `snakemake` makes the report of the demo study; see README.md for the other targets."""

from snakemake.utils import min_version

min_version("9.0")


container: "envs/weakseg.sif"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/annotations.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/crf.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


rule report:
    """Every page of the configured study's report (the default)."""
    default_target: True
    input:
        CHOSEN.report / "index.html",


for table in TABLES:

    rule:
        """One table of the configured study."""
        name:
            table
        input:
            CHOSEN.table(table),


for page in SHOWN_PAGES:
    if page not in TABLES:

        rule:
            """One page of the configured study's report."""
            name:
                page
            input:
                CHOSEN.report / f"{page}.html",


rule gallery:
    """The gallery of the configured study."""
    input:
        CHOSEN.report / "gallery.html",


for row in EXPERIMENTS:
    check_name(row.id, workflow)

    rule:
        """All runs of one experiment of the configured study."""
        name:
            row.id
        input:
            [CHOSEN.run(row.id, seed).metrics for seed in STUDY.seeds_of(row.id)],
