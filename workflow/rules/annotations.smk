rule annotate:
    """Image-level labels of the training images, from their pixel labels."""
    input:
        manifest=FILES.manifest,
    output:
        labels=FILES.image_labels,
    log:
        LOGS / "annotate.log",
    benchmark:
        BENCHMARKS / "annotate.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        options=study_options,
        decides=decides_annotation,
    message:
        "{wildcards.study}: image-level labels"
    shell:
        "weakseg annotate {params.options} --threads {threads} --log {log}"
