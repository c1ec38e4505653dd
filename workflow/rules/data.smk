rule data:
    """Generate, find or download the images of a study and check them."""
    output:
        manifest=FILES.manifest,
    log:
        LOGS / "data.log",
    benchmark:
        BENCHMARKS / "data.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        options=study_options,
        decides=decides_data,
    message:
        "{wildcards.study}: images"
    shell:
        "weakseg data {params.options} --threads {threads} --log {log}"
