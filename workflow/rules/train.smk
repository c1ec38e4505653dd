# It needs the network, which compute nodes may not have.
localrules:
    weights,


rule weights:
    """Initial weights by name, fetched or found, checked, converted and kept in the cache for all studies."""
    input:
        ancient(Path(CONFIG_DIR, "weights.yaml")),
    output:
        weights=str(WEIGHTS_FOLDER / "{weights}.safetensors"),
    log:
        WEIGHTS_LOG,
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        attempt=last_attempt(WEIGHTS_LOG),
        options=weights_options,
    message:
        "initial weights {wildcards.weights}"
    shell:
        "attempt {log:q} {params.attempt:q}" " weakseg weights {params.options} --log {log:q}"


rule pretrain:
    """Pre-train the trunk on generated single-object images, for studies whose weights lie in their results."""
    input:
        sheets,
        generated,
    output:
        weights=FILES.pretrained,
    log:
        LOGS / "pretrain.log",
    benchmark:
        BENCHMARKS / "pretrain.tsv"
    threads: 2
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        attempt=last_attempt(LOGS / "pretrain.log"),
        options=study_options,
        decides=decided_by(decides.trunk),
    message:
        "{wildcards.study}: pre-training of the trunk"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " weakseg pretrain {params.options} --threads {threads} --log {log:q}"


rule projection:
    """Principal axes of a frozen trunk's map, for studies that name how many."""
    input:
        sheets,
        needs_of(FILES.projection),
        generated,
        manifest=FILES.manifest,
        contents=FILES.contents,
        weights=initial_weights,
        named_weights=named_weights,
    output:
        projection=FILES.projection,
    log:
        LOGS / "projection.log",
    benchmark:
        BENCHMARKS / "projection.tsv"
    threads: 2
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=features_minutes,
    params:
        attempt=last_attempt(LOGS / "projection.log"),
        options=study_options,
        decides=decided_by(decides.features),
    message:
        "{wildcards.study}: principal axes of the frozen trunk's map"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " weakseg projection {params.options} --threads {threads} --log {log:q}"


rule features:
    """Feature maps of a frozen trunk, computed once for all runs of a study."""
    input:
        sheets,
        needs_of(FILES.features("{role}")),
        generated,
        manifest=FILES.manifest,
        contents=FILES.contents,
        weights=initial_weights,
        named_weights=named_weights,
        projection=projection,
    output:
        maps=FILES.features("{role}"),
    log:
        LOGS / "features_{role}.log",
    benchmark:
        BENCHMARKS / "features_{role}.tsv"
    threads: 2
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=features_minutes,
    params:
        attempt=last_attempt(LOGS / "features_{role}.log"),
        options=study_options,
        decides=decided_by(decides.features),
    message:
        "{wildcards.study}: feature maps of the frozen trunk, {wildcards.role}"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " weakseg features {params.options} --role {wildcards.role} --threads {threads} --log {log:q}"


rule train:
    """One run. Its resume states lie in `resume/` beside the output and are none, so that a stopped run goes on."""
    input:
        sheets,
        needs_of(RUN.model),
        generated,
        manifest=FILES.manifest,
        contents=FILES.contents,
        labels=FILES.image_labels,
        crop_labels=FILES.crop_labels,
        weights=initial_weights,
        named_weights=named_weights,
        projection=projection,
        features=training_maps,
        label_maps=label_maps,
        other_data=other_data,
        start=start,
    output:
        model=RUN.model,
        train_log=RUN.train_log,
        config=RUN.config,
        snapshots=directory(RUN.snapshots),
    log:
        LOGS / "train" / "{experiment}_seed{seed}.log",
    benchmark:
        BENCHMARKS / "train" / "{experiment}_seed{seed}.tsv"
    threads: run_threads
    resources:
        gpu=1,
        mem_mb=run_memory("train"),
        runtime=run_minutes("train"),
    params:
        attempt=last_attempt(LOGS / "train" / "{experiment}_seed{seed}.log"),
        options=run_options,
        workers=loader_processes,
        decides=decides_training,
    message:
        "{wildcards.study}: training of {wildcards.experiment}, seed {wildcards.seed}"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " weakseg train {params.options} --threads {threads} --workers {params.workers} --log {log:q}"


rule estep_maps:
    """E-step maps of whole training images, drawn from the snapshots of a run."""
    input:
        sheets,
        generated,
        manifest=FILES.manifest,
        contents=FILES.contents,
        labels=FILES.image_labels,
        crop_labels=FILES.crop_labels,
        boxes=FILES.boxes,
        weights=initial_weights,
        named_weights=named_weights,
        projection=projection,
        features=training_maps,
        label_maps=label_maps,
        snapshots=RUN.snapshots,
    output:
        maps=RUN.estep_maps,
        confusion=RUN.estep_confusion,
    log:
        LOGS / "estep_maps" / "{experiment}_seed{seed}.log",
    benchmark:
        BENCHMARKS / "estep_maps" / "{experiment}_seed{seed}.tsv"
    threads: run_threads
    resources:
        gpu=1,
        mem_mb=run_memory("estep_maps"),
        runtime=run_minutes("estep_maps"),
    params:
        attempt=last_attempt(LOGS / "estep_maps" / "{experiment}_seed{seed}.log"),
        options=run_options,
        decides=decides_estep_maps,
    message:
        "{wildcards.study}: E-step maps of {wildcards.experiment}, seed {wildcards.seed}"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " weakseg estep-maps {params.options} --threads {threads} --log {log:q}"
