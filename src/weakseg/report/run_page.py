"""The page of all runs: an anchor an experiment and a run, with its figures, its training, and what decided it."""

import json
from typing import Any

import pandas as pd

from weakseg.config import Experiment
from weakseg.report.html import render
from weakseg.report.notes import conventions
from weakseg.report.provenance import command_of, figure_facts, run_config
from weakseg.report.results import StudyResults, experiment_label, read_logs, read_metrics
from weakseg.report.tables import MISSING, table_title

SEARCHED = ("w", "sigma_xy", "sigma_rgb")
"""The CRF's parameters that were searched; of some kept results the winners are not known."""

WIDTH, HEIGHT = 320, 90
"""Size of a curve's drawing, in its own units."""

POINTS = 60
"""Points of a curve."""


def runs_html(results: StudyResults) -> str:
    """The page's HTML. An experiment has its id as its anchor, a run `{experiment}-seed{seed}`.

    Raises:
        WeaksegError: a run is not finished.
    """
    metrics = read_metrics(results).set_index(["experiment", "seed"])
    logs = read_logs(results, points=POINTS)
    highest = float(logs["loss"].max())
    sections = []
    for row in results.experiments:
        log = logs[logs["experiment"] == row.id]
        seeds = results.study.seeds_of(row.id)
        ends = log.groupby("seed")["loss"].agg(["first", "last"]).mean()
        sections.append(
            {
                "id": row.id,
                "title": experiment_label(row),
                "place": _place(row),
                "seeds": [_seed(results, row, seed, metrics.loc[(row.id, seed)]) for seed in seeds],
                "curves": [_points(log[log["seed"] == seed], highest) for seed in seeds],
                "iterations": f"{results.study.solver_of(row).iterations:,}",
                "loss": f"{ends['first']:.2f} at the start, {ends['last']:.2f} at the end",
                "config": json.dumps(_config(results, row, seeds[0]), indent=1, ensure_ascii=False),
                "command": command_of(results, row.id),
            }
        )
    return render(
        "runs.html.j2",
        title=f"runs of study {results.study.name}",
        study=results.study,
        sections=sections,
        width=WIDTH,
        height=HEIGHT,
        highest=f"{highest:.1f}",
        code=figure_facts(results, "runs", [])["code"],
        conventions=conventions(results),
    )


def _place(row: Experiment) -> str:
    places = {row.table: row.line, **row.also}
    text = ", ".join(f"{table_title(table)} line {line}" for table, line in places.items())
    return text + (f", as a variant: {row.variant}" if row.variant else "")


def _seed(results: StudyResults, row: Experiment, seed: int, figures: pd.Series) -> dict[str, Any]:
    run = results.paths.run(row.id, seed)
    config = _config(results, row, seed)
    untuned = figures["iou_crf_untuned_val"]
    crf = json.loads(run.crf.read_text(encoding="utf-8")) if run.crf.is_file() else None
    return {
        "seed": seed,
        "cells": {
            "DCNN": f"{figures['iou_dcnn']:.1f}",
            "DCNN + CRF": f"{figures['iou_crf']:.1f}",
            "without held-out": MISSING if pd.isna(untuned) else f"{untuned:.1f}",
            "strong": f"{figures['strong']:,}",
            "weak": f"{figures['weak']:,}",
            "minutes": f"{figures['train_seconds'] / 60:.1f}",
            "device": config.get("device", "–"),
            "CRF (w, xy, rgb)": ", ".join(f"{crf[name]:g}" for name in SEARCHED) if crf else "–",
            "configuration": str(config.get("hash", "–"))[:12],
        },
    }


def _config(results: StudyResults, row: Experiment, seed: int) -> dict[str, Any]:
    """What a run noted of itself, without the names and colours of the labels, which all runs share."""
    known = run_config(results.paths.run(row.id, seed).config, f"run {row.id}, seed {seed}")
    return {name: value for name, value in known.items() if name != "labels"}


def _points(log: pd.DataFrame, highest: float) -> str:
    """The loss of a run as the points of an SVG polyline; a loss of 0 lies on the lower edge."""
    across = log["iteration"] / max(float(log["iteration"].max()), 1) * WIDTH
    down = HEIGHT - log["loss"] / (highest or 1) * HEIGHT
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
