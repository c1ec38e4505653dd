rule tune_crf:
    """Parameters of the CRF by grid search on the held-out images; every combination tried is kept."""
    input:
        sheets,
        generated,
        manifest=FILES.manifest,
        contents=FILES.contents,
        scores=RUN.scores,
    output:
        crf=RUN.crf,
        grid=RUN.crf_grid,
    log:
        LOGS / "tune_crf" / "{experiment}_seed{seed}.log",
    benchmark:
        BENCHMARKS / "tune_crf" / "{experiment}_seed{seed}.tsv"
    threads: run_threads
    resources:
        **crf_resources(),
        mem_mb=4000,
        runtime=360,
    params:
        attempt=last_attempt(LOGS / "tune_crf" / "{experiment}_seed{seed}.log"),
        options=run_options,
        decides=decided_by(decides.crf_search),
    message:
        "{wildcards.study}: CRF search of {wildcards.experiment}, seed {wildcards.seed}"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " weakseg tune-crf {params.options} --threads {threads} --log {log:q}"
