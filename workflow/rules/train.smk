rule pretrain:
    """Pre-train the trunk on generated single-object images, for studies whose weights lie in their results."""
    input:
        manifest=FILES.manifest,
    output:
        weights=FILES.pretrained,
    log:
        LOGS / "pretrain.log",
    benchmark:
        BENCHMARKS / "pretrain.tsv"
    threads: 2
    resources:
        gpu=1,
        mem_mb=3000,
        runtime=60,
    params:
        options=study_options,
        decides=decides_maps,
    message:
        "{wildcards.study}: pre-training of the trunk"
    shell:
        "weakseg pretrain {params.options} --threads {threads} --log {log}"


rule features:
    """Maps of a frozen trunk, computed once for all runs of a study."""
    input:
        manifest=FILES.manifest,
        weights=initial_weights,
    output:
        maps=FILES.features("{split}"),
    log:
        LOGS / "features_{split}.log",
    benchmark:
        BENCHMARKS / "features_{split}.tsv"
    threads: 2
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=120,
    params:
        options=study_options,
        decides=decides_maps,
    message:
        "{wildcards.study}: maps of the frozen trunk, list {wildcards.split}"
    shell:
        "weakseg features {params.options} --split {wildcards.split} --threads {threads} --log {log}"


rule train:
    """One run. Its resume states lie in `resume/` beside the output and are none, so that a stopped run goes on."""
    input:
        manifest=FILES.manifest,
        labels=FILES.image_labels,
        weights=initial_weights,
        maps=cached_maps("train_aug"),
        boxes=maps_from_boxes,
    output:
        model=RUN.model,
        train_log=RUN.train_log,
        config=RUN.config,
    log:
        LOGS / "train" / "{experiment}_seed{seed}.log",
    benchmark:
        BENCHMARKS / "train" / "{experiment}_seed{seed}.tsv"
    wildcard_constraints:
        experiment=named_by(NOT_WATCHED),
    threads: run_threads
    resources:
        gpu=1,
        mem_mb=6000,
        runtime=720,
    params:
        options=run_options,
        decides=decides_training,
    message:
        "{wildcards.study}: training of {wildcards.experiment}, seed {wildcards.seed}"
    shell:
        "weakseg train {params.options} --threads {threads} --log {log}"


use rule train as train_watched with:
    output:
        model=RUN.model,
        train_log=RUN.train_log,
        config=RUN.config,
        estep_maps=RUN.estep_maps,
        estep_confusion=RUN.estep_confusion,
    wildcard_constraints:
        experiment=named_by(WATCHED),
