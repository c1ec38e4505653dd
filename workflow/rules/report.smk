rule table:
    """One table of the paper with this study's figures beside the published ones."""
    input:
        sheets,
        metrics=table_input,
    output:
        table=report(
            FILES.table("{table}"),
            caption="../report/table.rst",
            category="Tables",
            subcategory="{study}",
            labels=table_labels,
        ),
    log:
        LOGS / "table" / "{table}.log",
    benchmark:
        BENCHMARKS / "table" / "{table}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        attempt=last_attempt(LOGS / "table" / "{table}.log"),
        options=study_options,
        decides=decides_table,
    message:
        "{wildcards.study}: {wildcards.table}"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " weakseg tables {params.options} --table {wildcards.table} --log {log:q}"


rule findings:
    """What the paper finds by comparing lines, with a verdict on each claim; printed once the report is made."""
    input:
        sheets,
        metrics=findings_input,
    output:
        findings=report(FILES.findings, caption="../report/findings.rst", category="Tables"),
    log:
        LOGS / "findings.log",
    benchmark:
        BENCHMARKS / "findings.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        attempt=last_attempt(LOGS / "findings.log"),
        options=study_options,
        decides=decides_findings,
    message:
        "{wildcards.study}: findings"
    shell:
        "attempt {log:q} {params.attempt:q}" " weakseg findings {params.options} --log {log:q} > /dev/null"


rule notebook:
    """Run the notebook of a page with the study's parameters; the executed copy is kept."""
    input:
        sheets,
        generated,
        notebook=f"{NOTEBOOKS}/{{page}}.ipynb",
        read=page_input,
    output:
        executed=FILES.report / "notebooks" / "{page}.ipynb",
    log:
        LOGS / "notebook" / "{page}.log",
    benchmark:
        BENCHMARKS / "notebook" / "{page}.tsv"
    # Two kernels that start at one moment can take the same ports.
    retries: 1
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        attempt=last_attempt(LOGS / "notebook" / "{page}.log"),
        parameters=notebook_parameters,
        decides=decides_pages,
    message:
        "{wildcards.study}: page {wildcards.page}"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " env MPLBACKEND=module://matplotlib_inline.backend_inline"
        " papermill {input.notebook:q} {output.executed:q} {params.parameters} --kernel python3 --no-progress-bar"
        " > {log:q} 2>&1"


rule page:
    """The page as HTML, code cells left out."""
    input:
        executed=FILES.report / "notebooks" / "{page}.ipynb",
        template=f"{TEMPLATES}/page/notebook.html.j2",
        head=f"{TEMPLATES}/page/head.html.j2",
        template_conf=f"{TEMPLATES}/page/conf.json",
        style=f"{TEMPLATES}/page/report.css",
        script=f"{TEMPLATES}/page/sort.js",
    output:
        html=report(
            FILES.report / "{page}.html",
            caption="../report/page.rst",
            category="Pages",
            subcategory="{study}",
            labels=page_labels,
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
        attempt=last_attempt(LOGS / "page" / "{page}.log"),
        folder=lambda wildcards, output: Path(output.html).parent,
        templates=lambda wildcards, input: Path(input.template).parents[1],
    message:
        "{wildcards.study}: {wildcards.page}.html"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " jupyter nbconvert {input.executed:q} --to html --no-input --template page --template-file notebook.html.j2"
        " --TemplateExporter.extra_template_basedirs={params.templates:q}"
        " --output-dir {params.folder:q} --output {wildcards.page}.html > {log:q} 2>&1"


rule gallery_page:
    """Every run's label maps in one page that people can look through; `gallery` is its target."""
    input:
        sheets,
        generated,
        gallery_input,
        templates=[f"{TEMPLATES}/page/{part}.html.j2" for part in ("gallery", "head", "macros")],
        styles=[f"{TEMPLATES}/page/{part}.css" for part in ("report", "gallery")],
        scripts=[
            f"{TEMPLATES}/page/sort.js",
            *sorted(map(str, Path(TEMPLATES, "page").glob("gallery*.js"))),
        ],
    output:
        html=report(
            FILES.report / "gallery.html",
            caption="../report/gallery.rst",
            category="Pages",
            subcategory="{study}",
            labels={"page": "Gallery", "shows": "Every image with the label maps of all runs."},
        ),
    log:
        LOGS / "gallery.log",
    benchmark:
        BENCHMARKS / "gallery.tsv"
    threads: 2
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        attempt=last_attempt(LOGS / "gallery.log"),
        options=study_options,
        decides=decides_pages,
    message:
        "{wildcards.study}: gallery"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " weakseg gallery {params.options} --threads {threads} --log {log:q}"


rule index:
    """The page that links to all others, and that of the runs, to which its numbers lead."""
    input:
        sheets,
        index_input,
        templates=[f"{TEMPLATES}/page/{part}.html.j2" for part in ("study", "runs", "base", "head", "macros")],
        style=f"{TEMPLATES}/page/report.css",
        script=f"{TEMPLATES}/page/sort.js",
    output:
        html=report(
            FILES.report / "index.html",
            caption="../report/index.rst",
            category="Pages",
            subcategory="{study}",
            labels={"page": "Index", "shows": "What was found, and the way to the other pages."},
        ),
        runs=report(
            FILES.report / "runs.html",
            caption="../report/runs.rst",
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
        attempt=last_attempt(LOGS / "index.log"),
        options=study_options,
        decides=decides_pages,
    message:
        "{wildcards.study}: index of the report"
    shell:
        "attempt {log:q} {params.attempt:q}" " weakseg index {params.options} --log {log:q}"


onsuccess:
    print_findings()
