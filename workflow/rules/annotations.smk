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


rule extract_boxes:
    """Boxes of the training and the held-out images: from instance masks, else from XML annotations."""
    input:
        manifest=FILES.manifest,
    output:
        boxes=FILES.boxes,
    log:
        LOGS / "extract_boxes.log",
    benchmark:
        BENCHMARKS / "extract_boxes.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        options=study_options,
        decides=decides_annotation,
    message:
        "{wildcards.study}: boxes"
    shell:
        "weakseg boxes {params.options} --threads {threads} --log {log}"


rule bbox_rect:
    """Label maps of Bbox-Rect: boxes painted from large to small."""
    input:
        manifest=FILES.manifest,
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
        options=study_options,
        decides=decides_annotation,
    message:
        "{wildcards.study}: label maps of Bbox-Rect"
    shell:
        "weakseg bbox-rect {params.options} --threads {threads} --log {log}"


rule tune_boxes:
    """Bbox-Seg's alpha and CRF parameters by search on the held-out images; every set tried is kept."""
    input:
        manifest=FILES.manifest,
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
        options=study_options,
        decides=decides_boxes,
    message:
        "{wildcards.study}: search for the parameters of Bbox-Seg"
    shell:
        "weakseg tune-boxes {params.options} --threads {threads} --log {log}"


rule bbox_seg:
    """Label maps of Bbox-Seg, by the dense CRF. A stopped pass goes on from the folder in which maps gather."""
    input:
        manifest=FILES.manifest,
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
        options=study_options,
        decides=decides_annotation,
    message:
        "{wildcards.study}: label maps of Bbox-Seg"
    shell:
        "weakseg bbox-seg {params.options} --threads {threads} --log {log}"


rule label_quality:
    """IOU of the training labels of each box method against the truth."""
    input:
        manifest=FILES.manifest,
        bbox_rect=FILES.box_maps("bbox_rect"),
        bbox_seg=FILES.box_maps("bbox_seg"),
        estep=watched_confusion,
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
        options=study_options,
        decides=decides_quality,
    message:
        "{wildcards.study}: quality of the training labels"
    shell:
        "weakseg label-quality {params.options} --threads {threads} --log {log}"
