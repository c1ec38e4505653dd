rule scenes:
    """Generate the images of a study of scenes, and single objects for pre-training."""
    input:
        sheets,
    output:
        images=directory(FILES.images),
    log:
        LOGS / "scenes.log",
    benchmark:
        BENCHMARKS / "scenes.tsv"
    threads: 2
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        attempt=last_attempt(LOGS / "scenes.log"),
        options=study_options,
        decides=decided_by(decides.scenes),
    message:
        "{wildcards.study}: generated images"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " weakseg scenes {params.options} --threads {threads} --log {log:q}"


rule data:
    """Find or download the images of a study, check them, and note what they hold."""
    input:
        sheets,
        needs_of(FILES.manifest),
        archives,
        generated,
    output:
        contents=FILES.contents,
        manifest=FILES.manifest,
    log:
        LOGS / "data.log",
    benchmark:
        BENCHMARKS / "data.tsv"
    # Nodes of a cluster often reach no other network.
    localrule: STUDY.dataset.source == "download"
    threads: data_threads
    resources:
        mem_mb=data_memory,
        runtime=120,
    params:
        attempt=last_attempt(LOGS / "data.log"),
        options=study_options,
        decides=decides_data,
    message:
        "{wildcards.study}: images checked"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " weakseg data {params.options} --threads {threads} --log {log:q}"
