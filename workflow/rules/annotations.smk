rule annotate:
    """Image-level labels of training images and their crops, and boxes: all that training reads of weak images."""
    input:
        sheets,
        generated,
        manifest=FILES.manifest,
        contents=FILES.contents,
    output:
        labels=FILES.image_labels,
        crop_labels=FILES.crop_labels,
        boxes=FILES.boxes,
    log:
        LOGS / "annotate.log",
    benchmark:
        BENCHMARKS / "annotate.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        attempt=last_attempt(LOGS / "annotate.log"),
        options=study_options,
        decides=decided_by(decides.annotation),
    message:
        "{wildcards.study}: image-level labels and boxes"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " weakseg annotate {params.options} --threads {threads} --log {log:q}"


rule bbox_rect:
    """Label maps of Bbox-Rect: boxes painted from large to small."""
    input:
        sheets,
        generated,
        manifest=FILES.manifest,
        contents=FILES.contents,
        boxes=FILES.boxes,
    output:
        maps=directory(FILES.box_maps("bbox_rect")),
    log:
        LOGS / "bbox_rect.log",
    benchmark:
        BENCHMARKS / "bbox_rect.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        attempt=last_attempt(LOGS / "bbox_rect.log"),
        options=study_options,
    message:
        "{wildcards.study}: label maps of Bbox-Rect"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " weakseg bbox-rect {params.options} --threads {threads} --log {log:q}"


rule tune_boxes:
    """Bbox-Seg's alpha and CRF parameters by search on the held-out images; every set tried is kept."""
    input:
        sheets,
        generated,
        manifest=FILES.manifest,
        contents=FILES.contents,
        boxes=FILES.boxes,
    output:
        grid=FILES.bbox_seg_grid,
        params=FILES.bbox_seg_params,
    log:
        LOGS / "tune_boxes.log",
    benchmark:
        BENCHMARKS / "tune_boxes.tsv"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=360,
    params:
        attempt=last_attempt(LOGS / "tune_boxes.log"),
        options=study_options,
        decides=decided_by(decides.bbox_seg_search),
    message:
        "{wildcards.study}: search for the parameters of Bbox-Seg"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " weakseg tune-boxes {params.options} --threads {threads} --log {log:q}"


rule bbox_seg:
    """Label maps of Bbox-Seg, by the dense CRF. A stopped pass goes on from the folder in which maps gather."""
    input:
        sheets,
        generated,
        manifest=FILES.manifest,
        contents=FILES.contents,
        boxes=FILES.boxes,
        params=FILES.bbox_seg_params,
    output:
        maps=directory(FILES.box_maps("bbox_seg")),
    log:
        LOGS / "bbox_seg.log",
    benchmark:
        BENCHMARKS / "bbox_seg.tsv"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=720,
    params:
        attempt=last_attempt(LOGS / "bbox_seg.log"),
        options=study_options,
    message:
        "{wildcards.study}: label maps of Bbox-Seg"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " weakseg bbox-seg {params.options} --threads {threads} --log {log:q}"


rule label_quality:
    """IOU of the training labels of each box method against the truth."""
    input:
        sheets,
        generated,
        manifest=FILES.manifest,
        contents=FILES.contents,
        boxes=FILES.boxes,
        bbox_rect=FILES.box_maps("bbox_rect"),
        bbox_seg=FILES.box_maps("bbox_seg"),
        estep=shown_confusion,
    output:
        quality=FILES.label_quality,
    log:
        LOGS / "label_quality.log",
    benchmark:
        BENCHMARKS / "label_quality.tsv"
    threads: 2
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        attempt=last_attempt(LOGS / "label_quality.log"),
        options=study_options,
        decides=decided_by(decides.label_quality),
    message:
        "{wildcards.study}: quality of the training labels"
    shell:
        "attempt {log:q} {params.attempt:q}"
        " weakseg label-quality {params.options} --threads {threads} --log {log:q}"
