rule score:
    """Scores of val, stored once: what comes after needs neither the network nor a GPU."""
    input:
        manifest=FILES.manifest,
        model=RUN.model,
        maps=cached_maps("val"),
    output:
        scores=RUN.scores,
    log:
        LOGS / "score" / "{experiment}_seed{seed}.log",
    benchmark:
        BENCHMARKS / "score" / "{experiment}_seed{seed}.tsv"
    threads: run_threads
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=60,
    params:
        options=run_options,
    message:
        "{wildcards.study}: scores of {wildcards.experiment}, seed {wildcards.seed}"
    shell:
        "weakseg score {params.options} --threads {threads} --log {log}"


rule evaluate:
    """Mean IOU with and without the CRF, on val and on val without the held-out images."""
    input:
        manifest=FILES.manifest,
        config=RUN.config,
        scores=RUN.scores,
        crf=RUN.crf,
    output:
        metrics=RUN.metrics,
        per_class=RUN.per_class,
        confusion=RUN.confusion(crf=True),
        confusion_dcnn=RUN.confusion(crf=False),
        labels=directory(RUN.labels(crf=True)),
        labels_dcnn=directory(RUN.labels(crf=False)),
    log:
        LOGS / "evaluate" / "{experiment}_seed{seed}.log",
    benchmark:
        BENCHMARKS / "evaluate" / "{experiment}_seed{seed}.tsv"
    threads: run_threads
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        options=run_options,
    message:
        "{wildcards.study}: evaluation of {wildcards.experiment}, seed {wildcards.seed}"
    shell:
        "weakseg evaluate {params.options} --threads {threads} --log {log}"
