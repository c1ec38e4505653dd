rule score:
    """Scores of the evaluation images, stored once: what comes after needs neither the network nor a GPU."""
    input:
        sheets,
        generated,
        manifest=FILES.manifest,
        contents=FILES.contents,
        model=RUN.model,
        features=scored_maps,
    output:
        scores=RUN.scores,
    log:
        LOGS / "score" / "{experiment}_seed{seed}.log",
    benchmark:
        BENCHMARKS / "score" / "{experiment}_seed{seed}.tsv"
    threads: run_threads
    resources:
        gpu=1,
        mem_mb=run_memory("score"),
        runtime=run_minutes("score"),
    params:
        attempt=last_attempt(LOGS / "score" / "{experiment}_seed{seed}.log"),
        options=run_options,
        decides=decided_by(decides.scoring),
    message:
        "{wildcards.study}: scores of {wildcards.experiment}, seed {wildcards.seed}"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " weakseg score {params.options} --threads {threads} --log {log:q}"


rule evaluate:
    """Mean IOU with and without the CRF, on all evaluation images and on those that are not held out."""
    input:
        sheets,
        generated,
        manifest=FILES.manifest,
        contents=FILES.contents,
        config=RUN.config,
        scores=RUN.scores,
        crf=tuned_crf,
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
        **crf_resources(),
        mem_mb=4000,
        runtime=120,
    params:
        attempt=last_attempt(LOGS / "evaluate" / "{experiment}_seed{seed}.log"),
        options=run_options,
    message:
        "{wildcards.study}: evaluation of {wildcards.experiment}, seed {wildcards.seed}"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " weakseg evaluate {params.options} --threads {threads} --log {log:q}"


rule submission:
    """The label maps of the test photos of a run of the second stage, as the server of PASCAL VOC takes them."""
    input:
        sheets,
        generated,
        manifest=FILES.manifest,
        contents=FILES.contents,
        labels=RUN.labels(crf=True),
    output:
        archive=RUN.submission,
    log:
        LOGS / "submission" / "{experiment}_seed{seed}.log",
    benchmark:
        BENCHMARKS / "submission" / "{experiment}_seed{seed}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        attempt=last_attempt(LOGS / "submission" / "{experiment}_seed{seed}.log"),
        options=run_options,
    message:
        "{wildcards.study}: archive of the test photos' labels by {wildcards.experiment}, seed {wildcards.seed}"
    shell:
        "attempt {log:q} {params.attempt:q}" " weakseg submission {params.options} --log {log:q}"
