rule table:
    """One table of the paper with this study's figures beside the published ones."""
    input:
        metrics=table_input,
    output:
        table=report(FILES.table("{table}"), caption="../report/table.rst", category="Tables"),
    log:
        LOGS / "table" / "{table}.log",
    benchmark:
        BENCHMARKS / "table" / "{table}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=study_options,
        decides=decides_table,
    message:
        "{wildcards.study}: {wildcards.table}"
    shell:
        "weakseg tables {params.options} --table {wildcards.table} --log {log}"


rule notebook:
    """Run the notebook of a page with the study's parameters; the executed copy is kept."""
    input:
        notebook="notebooks/{page}.ipynb",
        read=page_input,
    output:
        executed=FILES.report / "notebooks" / "{page}.ipynb",
    log:
        LOGS / "notebook" / "{page}.log",
    benchmark:
        BENCHMARKS / "notebook" / "{page}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        parameters=notebook_parameters,
        decides=decides_pages,
    message:
        "{wildcards.study}: page {wildcards.page}"
    shell:
        "papermill {input.notebook} {output.executed} {params.parameters} --no-progress-bar > {log} 2>&1"


rule page:
    """The page as HTML, code cells left out."""
    input:
        executed=FILES.report / "notebooks" / "{page}.ipynb",
        template=f"{TEMPLATES}/page/index.html.j2",
        style=f"{TEMPLATES}/page/report.css",
    output:
        html=report(
            FILES.report / "{page}.html",
            caption="../report/page.rst",
            category="Pages",
        ),
    log:
        LOGS / "page" / "{page}.log",
    benchmark:
        BENCHMARKS / "page" / "{page}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        folder=lambda wildcards, output: Path(output.html).parent,
        template=f"--template page --TemplateExporter.extra_template_basedirs={TEMPLATES}",
    message:
        "{wildcards.study}: {wildcards.page}.html"
    shell:
        "jupyter nbconvert {input.executed} --to html --no-input {params.template} --output-dir {params.folder}"
        " --output {wildcards.page}.html > {log} 2>&1"


rule index:
    """The page that links to all others."""
    input:
        index_input,
        style=f"{TEMPLATES}/page/report.css",
    output:
        html=report(
            FILES.report / "index.html",
            caption="../report/index.rst",
            category="Pages",
        ),
    log:
        LOGS / "index.log",
    benchmark:
        BENCHMARKS / "index.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=study_options,
        decides=decides_pages,
    message:
        "{wildcards.study}: index of the report"
    shell:
        "weakseg index {params.options} --log {log}"
