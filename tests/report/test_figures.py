"""Figures show the figures they are given."""

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from weakseg.labels import VOC, LabelSet
from weakseg.report import box_pages, figures
from weakseg.report.estep_maps import at_pixels
from weakseg.report.results import read_grids, read_logs, read_per_class
from weakseg.report.tables import read_table


@pytest.fixture(autouse=True)
def style():
    with matplotlib.rc_context():
        figures.set_style()
        yield


def lines_of(axes):
    return [np.column_stack([line.get_xdata(), line.get_ydata()]).astype(float) for line in axes.get_lines()]


def drawn(axes, wanted):
    return any(line.shape == np.shape(wanted) and np.allclose(line, wanted) for line in lines_of(axes))


def test_curve_is_the_table(finished):
    axes = figures.iou_against_strong(read_table(finished.paths, "table1"), 20).axes[0]
    strong = [3, 7, 10, 14, 20]
    assert drawn(axes, np.column_stack([strong, [40, 45, 47.2, 48, 50]]))
    assert drawn(axes, np.column_stack([strong, [47.6, 56.9, 59.8, 62.0, 64.6]]))
    # Weak lines stand at 0, EM-Adapt with its spread; strong training on all images is a level.
    assert drawn(axes, [[0, 31]])
    assert drawn(axes, [[0, 38.2]])
    assert drawn(axes, [[0, 55], [1, 55]])
    assert drawn(axes, [[0, 67.6], [1, 67.6]])
    # Strong training on train alone and the line with fewer weak images stand beside the curve's end.
    assert drawn(axes, [[20 + 1.5 * 0.014 * 20, 47]])
    assert drawn(axes, [[20 - 1.5 * 0.014 * 20, 49]])
    assert not drawn(axes, [[0, 0]])


@pytest.mark.parametrize(
    ("experiment", "ours", "published"),
    [
        ("em_adapt_weak", [[0, 31]], [[0, 38.2]]),
        ("strong_10582", [[0, 55], [1, 55]], [[0, 67.6], [1, 67.6]]),
        ("em_fixed_semi_500", [[7, 45]], [[7, 56.9]]),
        ("strong_1464", [[20 + 1.5 * 0.014 * 20, 47]], [[20 + 1.5 * 0.014 * 20, 62.5]]),
    ],
)
def test_curve_of_one_line_is_that_line(finished, experiment, ours, published):
    table = read_table(finished.paths, "table1").set_index("experiment", drop=False)
    axes = figures.iou_against_strong(table.loc[[experiment]], 20).axes[0]
    places = {tuple(line.flatten()) for line in lines_of(axes) if np.isfinite(line).all() and line.size}
    # Besides the two marks there are only the bars of the spread, which stand on ours.
    assert {tuple(np.ravel(ours)), tuple(np.ravel(published))} <= places
    assert all(line[0] == ours[0][0] for line in places)


def test_what_was_never_published_has_no_grey(with_own):
    table = read_table(with_own.paths, "table1").set_index("experiment", drop=False)

    def greys(frame):
        lines = figures.iou_against_strong(frame, 20).axes[0].get_lines()
        return [line.get_ydata() for line in lines if line.get_color() == figures.PAPER_COLOUR]

    everything = greys(table.drop("mine"))
    assert len(greys(table)) == len(everything) == 6  # the curve, two weak lines, two beside the curve, a level
    for experiment in ("em_adapt_weak", "em_fixed_semi_1464_5000", "strong_1464", "strong_10582"):
        blank = table.assign(published_iou=table["published_iou"].where(table["experiment"] != experiment))
        assert len(greys(blank)) == len(everything) - 1
    blank = table.assign(published_iou=table["published_iou"].where(table["experiment"] != "em_fixed_semi_500"))
    assert list(greys(blank)[0]) == [47.6, 59.8, 62.0, 64.6]
    assert greys(table.loc[["mine"]]) == []
    figure = figures.iou_against_strong(table.loc[["mine"]], 20)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Mine, all 50"]


def test_bars_of_a_table_that_was_never_published(with_own):
    figure = figures.table_bars(read_table(with_own.paths, "own"))
    assert [text.get_text() for text in figure.axes[0].texts] == ["5.0", "52.0"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "this study, with CRF",
        "this study, without CRF",
    ]
    both = figures.table_bars(read_table(with_own.paths, "table1")).axes[0]
    assert len(both.containers[0]) == 12 and len(both.containers[1]) == 13
    # The line of one's own is the last, the lowest one; the published bars leave its place empty.
    assert min(bar.get_y() for bar in both.containers[0]) > 1


def test_lines_that_are_not_run_have_a_published_bar_alone(second):
    axes = figures.table_bars(read_table(second.paths, "table4"), "boxes").axes[0]
    published, ours, plain = axes.containers
    assert (len(published), len(ours), len(plain)) == (9, 7, 7)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[:2] == ["BoxSup\nnot run here"] * 2
    assert names[2].startswith("Bbox-Rect (Weak), small FOV\n")


def test_the_curve_leaves_out_what_is_not_run(finished):
    table = read_table(finished.paths, "table1")
    kept = ["em_fixed_semi_500", "em_fixed_semi_1000"]
    part = table.assign(seeds=table["seeds"].where(table["experiment"].isin(kept), 0))
    part.loc[part["seeds"] == 0, ["strong", "weak"]] = 0
    everything, alone = (figures.iou_against_strong(frame, 20) for frame in (part, part[part["seeds"] > 0]))
    assert [line.tolist() for line in lines_of(everything.axes[0])] == [
        line.tolist() for line in lines_of(alone.axes[0])
    ]
    assert [text.get_text() for text in everything.legends[0].get_texts()] == [
        "EM-Fixed (Semi), all images", "published",
    ]  # fmt: skip


def test_bars_are_the_table(finished):
    table = read_table(finished.paths, "table1")
    axes = figures.table_bars(table).axes[0]
    widths = [patch.get_width() for patch in axes.patches]
    assert widths == [*table["published_iou"], *table["iou_crf_mean"], *table["iou_dcnn_mean"]]


def test_heatmaps_frame_the_winner(finished):
    grid = read_grids(finished)
    figure = figures.crf_heatmaps(grid)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 20
    frames = [patch for patch in shown[0].patches if isinstance(patch, Rectangle)]
    # Columns are sigma_rgb 3, 5, 9, rows sigma_xy 50, 70; the winner has 5 and 70.
    assert [frame.get_xy() for frame in frames] == [(1, 1)]
    assert [text.get_text() for text in shown[0].texts] == ["18.5", "19.5", "17.5", "19.0", "20.0", "18.0"]


def test_training_has_a_column_a_kind(finished):
    logs = read_logs(finished)
    figure = figures.training_curves(logs[logs["annotation"] != "box"])
    titles = ["Weak annotation alone", "With pixel labels of train", "Pixel labels alone"]
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == titles
    # Four weak experiments, one of them with three seeds.
    assert len(figure.axes[0].get_lines()) == 6
    assert [text.get_text() for text in figure.axes[5].texts] == ["no weak images"]


def test_training_of_one_kind(finished):
    logs = read_logs(finished)
    strong = logs[logs["kind"] == "strong"]
    loss, background, rate = figures.training_curves(strong).axes
    assert loss.get_title(loc="left") == "Pixel labels alone"
    assert [text.get_text() for text in background.texts] == ["no weak images"]
    run = strong[strong["experiment"] == "strong_10582"]
    for axes, column in ((loss, "loss"), (rate, "lr")):
        assert len(axes.get_lines()) == 2
        assert drawn(axes, run[["iteration", column]].to_numpy())


def test_figures_have_the_classes_of_the_label_set():
    pets = LabelSet.of_classes("pets", ["cat", "dog"], {"dog": "#0000ff"})
    rows = [
        {"label": "Strong", "seed": seed, "class": name, "iou_crf": iou + seed, "images": 2}
        for seed in (0, 2) for name, iou in (("dog", 10.0), ("cat", 20.0), ("background", 30.0))
    ]  # fmt: skip
    per_class = pd.DataFrame(rows)
    heat = figures.per_class_heatmap(per_class, pets).axes[0]
    assert [label.get_text() for label in heat.get_xticklabels()] == ["background (2)", "cat (2)", "dog (2)"]
    assert [text.get_text() for text in heat.texts] == ["31", "21", "11"]
    bars = figures.per_class_bars(per_class, pets, ["Strong"]).axes[0]
    assert [label.get_text() for label in bars.get_xticklabels()] == ["background", "cat", "dog"]
    assert [bar.get_height() for bar in bars.patches] == [31, 21, 11]
    shares = figures.confusion_figure(np.diag([1, 2, 3]), pets).axes[0]
    assert [label.get_text() for label in shares.get_yticklabels()] == ["background", "cat", "dog"]
    assert figures.colour_labels(np.array([[2]], dtype=np.uint8), pets).tolist() == [[[0, 0, 255]]]
    photo, dogs = np.zeros((4, 6, 3), np.uint8), np.full((4, 6), 2, np.uint8)
    figure = figures.picture_grid([[photo, dogs]], ["boxes", "map"], [["a", "b"]], [[(2, 0, 0, 2, 2)]], pets)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["dog"]
    assert [patch.get_edgecolor()[:3] for patch in figure.axes[0].patches] == [(1, 1, 1), (0, 0, 1)]


def test_heatmap_leaves_unknown_cells_white():
    cells = pd.DataFrame([[1.0, np.nan], [3.0, 4.0]], index=["p", "q"], columns=["a", "b"])
    axes = matplotlib.figure.Figure().subplots()
    mesh = figures.heatmap(axes, cells, ".1f")
    assert [(text.get_text(), *text.get_position()) for text in axes.texts] == [
        ("1.0", 0.5, 0.5), ("3.0", 0.5, 1.5), ("4.0", 1.5, 1.5),
    ]  # fmt: skip
    assert np.ma.getmaskarray(mesh.get_array()).ravel().tolist() == [False, True, False, False]
    assert axes.yaxis_inverted() and mesh.get_clim() == (1, 4)
    assert [text.get_color() for text in axes.texts] == ["white", "black", "black"]


def test_class_figures(finished):
    per_class = read_per_class(finished)
    heat = figures.per_class_heatmap(per_class, VOC).axes[0]
    # Mean over the three seeds of EM-Adapt: background 31 - 10.
    assert heat.texts[2 * 21].get_text() == "21"
    assert heat.get_xticklabels()[0].get_text() == "background (1)"
    labels = ["EM-Adapt (Weak)", "Strong 10,582"]
    bars = figures.per_class_bars(per_class, VOC, labels).axes[0]
    heights = [[bar.get_height() for bar in bars.containers[number].patches] for number in (1, 2)]
    assert heights[0] == pytest.approx([21 + n for n in range(21)]) and heights[1][0] == 45
    assert bars.patches[0].get_facecolor()[:3] == pytest.approx(
        tuple(int(figures.method_colour("EM-Adapt (Weak)")[i : i + 2], 16) / 255 for i in (1, 3, 5))
    )


def test_alpha_curve_takes_the_best_of_each(finished):
    axes = box_pages.draw_alpha(finished).axes[0]
    assert drawn(axes, [[20, 67], [40, 63], [60, 59], [80, 55]])
    assert drawn(axes, [[20, 72.6], [40, 71.8], [60, 68.8], [80, 65.6]])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["20", "40", "60", "80"]


def test_quality_has_a_row_a_method_and_moment(finished):
    axes = figures.quality_heatmap(box_pages.read_quality(finished), VOC).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["Bbox-Rect", "Bbox-Seg", *(f"Bbox-EM-Fixed, {moment}" for moment in ("start", "middle", "end"))]
    # Bbox-Seg's fabricated maps are the truth.
    cells = np.asarray(axes.collections[0].get_array()).reshape(5, -1)
    assert cells[1, 0] == 100 > cells[0, 0]


def test_boxes_lie_where_they_are():
    photo = np.full((10, 20, 3), 50, dtype=np.uint8)
    labels = np.zeros((10, 20), dtype=np.uint8)
    figure = figures.picture_grid([[photo, labels]], ["boxes", "map"], [["id", "a"]], [[(15, 2, 3, 7, 12)]], VOC)
    frames = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert {(frame.get_xy(), frame.get_width(), frame.get_height()) for frame in frames} == {((2.5, 1.5), 10, 6)}
    assert not figure.axes[1].patches
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["person"]


def test_cells_at_pixels():
    cells = np.array([[1, 2], [3, 4]], dtype=np.uint8)
    shown = at_pixels(cells, (9, 12), 8.0)
    assert shown.shape == (9, 12)
    assert np.array_equal(shown[::8, ::8], cells)  # a cell's own pixel shows its label
    assert (shown[:5, :5] == 1).all() and (shown[5:, 5:] == 4).all()  # half-way goes to the even cell


def test_figure_4_has_seven_columns(finished):
    figure = box_pages.draw_figure4(finished)
    titles = [axes.get_title(loc="left") for axes in figure.axes[:7]]
    assert titles[:4] == ["boxes", "truth", "Bbox-Rect", "Bbox-Seg"]
    assert titles[4:] == ["E-step, start", "E-step, half-way", "E-step, end"]
    assert len(figure.axes) == 14
    assert figure.axes[3].get_xlabel() == "IOU 100 %"


def test_confusion_is_by_true_class():
    counts = np.zeros((21, 21))
    counts[3, 3], counts[3, 8] = 30, 10
    mesh = figures.confusion_figure(counts, VOC).axes[0].collections[0]
    shares = np.asarray(mesh.get_array()).reshape(21, 21)
    assert (shares[3, 3], shares[3, 8], shares.sum()) == (75, 25, 100)


def test_methods_have_different_colours():
    assert len(set(figures.METHOD_COLOURS.values())) == len(figures.METHOD_COLOURS)
    assert figures.method_colour("Strong 1,464") == figures.METHOD_COLOURS["Strong"]
    assert figures.method_colour("another") == "#000000"


def test_label_maps_in_colour():
    labels = np.array([[0, 15, 255]], dtype=np.uint8)
    assert figures.colour_labels(labels, VOC).tolist() == [[[0, 0, 0], VOC.palette()[15].tolist(), [255, 255, 255]]]
    photo = np.full((1, 3, 3), 100, dtype=np.uint8)
    over = figures.colour_labels(labels, VOC, photo)
    assert over.dtype == np.uint8
    assert over[0, 0].tolist() == [round(110 + 100 * 145 / 255)] * 3
    assert over[0, 1].tolist() == [round(0.78 * value + 22) for value in VOC.palette()[15].tolist()]
    assert over[0, 2].tolist() == [255, 255, 255]


def test_pictures_have_their_places():
    photo = np.full((4, 6, 3), 50, dtype=np.uint8)
    truth, plain, smooth = (np.full((4, 6), label, dtype=np.uint8) for label in (1, 2, 255))
    figure = figures.qualitative_grid([[photo, truth, plain, smooth]], ["A"], [["id", "truth", "p", "s"]], VOC)
    captions = [axes.get_xlabel() for axes in figure.axes]
    assert captions == ["id", "p", "truth", "s"]  # two lines: photo and plain map, truth and smooth map
    assert np.array_equal(figure.axes[0].images[0].get_array(), photo)
    assert np.array_equal(figure.axes[1].images[0].get_array(), figures.colour_labels(plain, VOC, photo))
    assert [axes.get_ylabel() for axes in figure.axes] == ["without CRF", "", "with CRF", ""]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [VOC.names[1], VOC.names[2], "void"]


def test_no_figure_reads_the_order_of_rows(finished):
    """What is shown does not depend on how a file happens to be sorted."""
    table = read_table(finished.paths, "table1")
    semi = table["experiment"].str.contains("semi")
    turned = pd.concat([table[~semi], table[semi][::-1]])
    first, second = (figures.iou_against_strong(frame, 20).axes[0] for frame in (table, turned))
    curve = np.column_stack([[3, 7, 10, 14, 20], [40, 45, 47.2, 48, 50]])
    assert drawn(first, curve) and drawn(second, curve)
