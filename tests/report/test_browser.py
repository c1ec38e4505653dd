"""The report as a reader has it, in a browser without a window.

Index and gallery of the tiny study must be whole; what the gallery does is tried on that of the fabricated study, whose
runs differ.
"""

import base64
import io
import os
import re
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from weakseg.config import load_study, study_experiments
from weakseg.data.dataset import open_data
from weakseg.data.images import read_index_png
from weakseg.labels import IGNORE, VOC
from weakseg.metrics import confusion_matrix, image_iou
from weakseg.paths import StudyPaths
from weakseg.report.estep_maps import images_shown, read_estep_maps
from weakseg.report.gallery import gallery_html
from weakseg.report.results import StudyResults

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CONFIG = Path(__file__).parents[1] / "tiny" / "config"
TRUTH = "truth"

pytestmark = pytest.mark.timeout(120)


def wait_until(page: "Page", expression: str) -> None:
    """Wait until a JavaScript expression is true in a page; Playwright's own wait is refused by the pages' CSP."""
    until = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < until, expression
        time.sleep(0.02)


@pytest.fixture(scope="module")
def tiny():
    """The results of the tiny study, with its report."""
    folder = os.environ.get("WEAKSEG_TINY_RESULTS")
    if not folder:
        pytest.skip("`make test` runs the tiny study and sets WEAKSEG_TINY_RESULTS to its results")
    study = load_study("tiny", CONFIG)
    return StudyResults(study, study_experiments(study, CONFIG), StudyPaths("tiny", Path(folder).resolve()), CONFIG)


@pytest.fixture(scope="module")
def browser():
    """One browser for all tests of the file."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed; `make test` installs it"
    )
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(
            f"no browser here: install Chromium ({', '.join(BROWSERS)} were looked for) to test the pages in it"
        )
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


class Reader:
    """Opens pages in one tab; nothing may be fetched but the page, and nothing be complained of."""

    def __init__(self, browser, **options):
        self.tab = browser.new_page(**options)
        self.tab.set_default_timeout(20_000)
        self.complaints, self.requests, self.opened = [], [], set()
        self.tab.on("console", self._hear)
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", lambda request: self.requests.append(request.url))

    def _hear(self, said):
        if said.type in ("error", "warning"):
            self.complaints.append(said.text)

    def open(self, file, address=""):
        """Open a page anew, whatever was chosen on it before."""
        self.tab.goto("about:blank")
        self.opened.add(file.as_uri())
        self.tab.goto(file.as_uri() + address)
        return self.tab

    def check(self):
        """Hold what was heard since the last call against what may be."""
        complaints, requests = self.complaints[:], {url.partition("#")[0] for url in self.requests}
        self.complaints.clear()
        self.requests.clear()
        assert complaints == []
        assert {url for url in requests - self.opened if not url.startswith(("data:", "about:"))} == set()


WIDE = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def tab(browser):
    """One tab for all tests."""
    return Reader(browser, viewport=WIDE)


@pytest.fixture
def reader(tab):
    """The same, whose complaints are a test's own."""
    yield tab
    tab.check()


@pytest.fixture(scope="module")
def written(finished, tmp_path_factory):
    """The gallery of the fabricated study."""
    file = tmp_path_factory.mktemp("gallery") / "gallery.html"
    file.write_text(gallery_html(finished), encoding="utf-8")
    return file


@pytest.fixture
def gallery(reader, written):
    """The same in the browser, its first cards painted."""
    return opened_gallery(reader, written)


def opened_gallery(reader, file, address=""):
    page = reader.open(file, address)
    page.wait_for_selector(".card canvas[data-painted]")
    return page


def labels_of(results, photo, run, crf=True):
    """The labels that a run gives a photo, or the truth, read from the results."""
    if run == TRUTH:
        return open_data(results.paths.manifest).pixel_labels(photo)
    return read_index_png(results.paths.run(run, 0).labels(crf=crf) / f"{photo}.png", results.labels)


def iou_of(results, photo, run, crf=True):
    """Image IOU in percent; void pixels of the truth, which are none of its labels, count nowhere."""
    truth, found = labels_of(results, photo, TRUTH), labels_of(results, photo, run, crf)
    return image_iou(truth, np.where(truth == IGNORE, 0, found))


def shown(page):
    """Ids of the photos on the page, in their order."""
    return page.eval_on_selector_all(".card:not([hidden])", "cards => cards.map(card => card.dataset.id)")


def captions(page, photo):
    return page.locator(f".card[data-id='{photo}'] figcaption").all_inner_texts()


def chosen(page, side):
    """The run of a side, and whether the CRF is on."""
    return page.input_value(f"#run-{side}"), page.get_attribute(f"#crf-{side}", "aria-pressed") == "true"


def pixels(page, photo, side):
    """What stands on the canvas of a card, (H, W, 4) uint8."""
    canvas = page.locator(f".card[data-id='{photo}'] .pane-{side} canvas")
    picture = canvas.evaluate(
        """async (canvas) => {
          while (canvas.dataset.painted !== canvas.dataset.wanted) await new Promise(requestAnimationFrame);
          return canvas.toDataURL("image/png");
        }"""
    )
    with Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))) as opened:
        return np.array(opened.convert("RGBA"))


@pytest.fixture(scope="module")
def ids(finished):
    return open_data(finished.paths.manifest).ids("evaluation")


class Addresses(HTMLParser):
    """Where a page's links lead, and the places in it that a link can name."""

    def __init__(self, text):
        super().__init__()
        self.links, self.places = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.places.add(given.get("id"))
        self.links += [given["href"]] if tag == "a" and given.get("href") else []


@pytest.mark.parametrize("name", ["index.html", "gallery.html", "runs.html", "annotation_cost.html"])
def test_links_lead_somewhere(tiny, name):
    folder = tiny.paths.report
    links = Addresses((folder / name).read_text(encoding="utf-8")).links
    assert "gallery.html" in links if name == "index.html" else "index.html" in links
    for link in (link for link in links if not link.startswith("data:text/csv")):  # a CSV file in the page
        assert not re.match(r"\w+:|//", link), f"{name} links to {link}"
        file, _, place = link.partition("#")
        text = (folder / (file or name)).read_text(encoding="utf-8")
        assert not place or place in Addresses(text).places, f"{name} links to {link}"


@pytest.mark.parametrize("name", ["index.html", "gallery.html"])
def test_pages_are_whole_and_fit_the_screen(reader, tiny, name):
    page = reader.open(tiny.paths.report / name)
    images = page.eval_on_selector_all(
        "img", "images => Promise.all(images.map(i => i.decode().then(() => [i.naturalWidth, i.hasAttribute('alt')])))"
    )
    assert images and all(size > 1 and alt for size, alt in images)
    try:
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
    finally:
        page.set_viewport_size(WIDE)


def test_the_gallery_is_light_or_dark_as_the_reader_likes(gallery):
    colours = "['color', 'backgroundColor'].map(name => getComputedStyle(document.querySelector('main'))[name])"
    for scheme in ("dark", "light"):
        gallery.emulate_media(color_scheme=scheme)
        ink, paper = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in gallery.evaluate(colours))
        assert (paper > 600 and ink < 200) if scheme == "light" else (paper < 200 and ink > 600)


def test_every_map_is_painted_when_it_comes_into_view(reader, tiny):
    page = opened_gallery(reader, tiny.paths.report / "gallery.html")
    for place in page.locator(".card, .weak").all():
        place.scroll_into_view_if_needed()
    wait_until(page, "[...document.querySelectorAll('canvas')].every(canvas => canvas.dataset.painted)")
    assert page.locator("canvas:not([aria-label])").count() == 0
    sizes = page.eval_on_selector_all("canvas", "all => all.map(canvas => [canvas.height, canvas.width])")
    assert set(map(tuple, sizes)) == {(48, 64)}


def test_labels_stand_in_their_colours_and_under_their_iou(gallery, finished, ids):
    for run, crf in ((TRUTH, False), ("em_adapt_weak", False), ("em_adapt_weak", True), ("strong_10582", True)):
        gallery.select_option("#run-a", run)
        if run != TRUTH and chosen(gallery, "a")[1] != crf:
            gallery.click("#crf-a")
        for photo in ids[:4]:
            labels, painted = labels_of(finished, photo, run, crf), pixels(gallery, photo, "a")
            objects = (labels > 0) & (labels < 255)
            assert (painted[objects][:, :3] == VOC.palette()[labels[objects]]).all()
            assert (painted[objects][:, 3] == 255).all() and (painted[labels == 0][:, 3] < 200).all()
        said = {photo: captions(gallery, photo)[0] for photo in ids}
        assert said == {photo: f"A IOU {iou_of(finished, photo, run, crf):.0f} %" for photo in ids}


def test_chips_show_the_photos_that_hold_a_class_and_light_it(gallery, finished, ids):
    folder = open_data(finished.paths.manifest)
    present = {photo: set(np.unique(folder.pixel_labels(photo))) - {0, 255} for photo in ids}
    every = sorted(set().union(*present.values()))
    chips = gallery.locator(".chip")
    assert chips.evaluate_all("chips => chips.map(chip => Number(chip.dataset.label))") == every
    gallery.select_option("#run-a", TRUTH)
    # Of a photo with two classes one is lit; then both are asked for.
    photo, (one, other) = next((photo, sorted(held)) for photo, held in present.items() if len(held) == 2)
    chip = gallery.locator(f".chip[data-label='{one}']")
    assert chip.inner_text().endswith(str(sum(one in held for held in present.values())))
    chip.click()
    assert shown(gallery) == [photo for photo in ids if one in present[photo]]
    truth, painted = labels_of(finished, photo, TRUTH), pixels(gallery, photo, "a")
    assert (painted[truth == one][:, :3] == VOC.palette()[one]).all()
    assert len(np.unique(painted[truth == other], axis=0)) == 1
    assert not (painted[truth == other][:, :3] == VOC.palette()[other]).all(axis=1).any()
    gallery.click(f".chip[data-label='{other}']")
    assert shown(gallery) == [photo for photo in ids if {one, other} <= present[photo]]
    gallery.click(f".chip[data-label='{one}']")
    assert shown(gallery) == [photo for photo in ids if other in present[photo]]
    gallery.keyboard.press("Escape")
    assert shown(gallery) == ids and f"All {len(ids)} photos" in gallery.inner_text("#status")


def test_photos_are_sorted_by_iou_and_by_the_difference_of_two_runs(gallery, finished, ids):
    a, b = "em_adapt_weak", "em_fixed_weak"
    gallery.select_option("#run-a", a)
    gallery.select_option("#run-b", b)
    gallery.click("#crf-b")
    of_a, of_b = ({photo: iou_of(finished, photo, run, run == a) for photo in ids} for run in (a, b))
    assert len({of_a[photo] - of_b[photo] for photo in ids}) > 3
    values = {
        "number": lambda photo: 0, "worst": lambda photo: of_a[photo], "best": lambda photo: -of_a[photo],
        "gain": lambda photo: of_a[photo] - of_b[photo], "loss": lambda photo: of_b[photo] - of_a[photo],
    }  # fmt: skip
    for order, value in values.items():
        gallery.select_option("#order", order)
        found = [round(value(photo), 6) for photo in shown(gallery)]
        assert found == sorted(found), order
    assert gallery.locator("#order option[value=pixels]").get_attribute("disabled") is not None


def test_a_cell_of_the_confusion_matrix_shows_its_photos(gallery, finished, ids):
    run = "em_adapt_weak"
    gallery.select_option("#run-a", run)
    gallery.keyboard.press("Escape")
    gallery.click("#confusion summary")
    counts = {i: confusion_matrix(labels_of(finished, i, TRUTH), labels_of(finished, i, run), len(VOC)) for i in ids}
    total = sum(counts.values())
    cells = gallery.eval_on_selector_all("#matrix button", "cells => cells.map(cell => cell.dataset.cell)")
    assert cells == [f"{true} {found}" for true, found in np.argwhere(total)]
    # The cell of the fewest photos tells most.
    true, found = min(np.argwhere(total), key=lambda cell: sum(count[tuple(cell)] > 0 for count in counts.values()))
    button = gallery.locator(f"#matrix button[data-cell='{true} {found}']")
    share = 100 * total[true, found] / total[true].sum()
    assert f"{VOC.names[true]} taken for {VOC.names[found]}: {share:.1f} %, {total[true, found]:,} pixels" == (
        button.get_attribute("title")
    )
    button.click()
    expected = [photo for photo in ids if counts[photo][true, found]]
    assert shown(gallery) == sorted(expected, key=lambda photo: -counts[photo][true, found])
    assert gallery.input_value("#order") == "pixels"
    photo = shown(gallery)[0]
    searched = (labels_of(finished, photo, TRUTH) == true) & (labels_of(finished, photo, run) == found)
    assert ((pixels(gallery, photo, "a")[..., 3] == 255) == searched).all()
    # A cell belongs to a run: with another one all photos come back.
    gallery.select_option("#run-a", "strong_10582")
    assert shown(gallery) == ids and gallery.input_value("#order") == "number"


def test_keys_do_what_the_help_says(gallery, finished):
    runs = [TRUTH, *(row.id for row in finished.experiments)]
    press = gallery.keyboard.press
    first = chosen(gallery, "a")[0], chosen(gallery, "b")[0]
    for side, key in (("a", "a"), ("b", "b")):
        before = runs.index(chosen(gallery, side)[0])
        press(key)
        assert chosen(gallery, side)[0] == runs[(before + 1) % len(runs)]
        press(key.upper())
        assert chosen(gallery, side)[0] == runs[before]
    press("1")
    assert (chosen(gallery, "a")[1], chosen(gallery, "b")[1]) == (False, True)
    press("2")
    assert (chosen(gallery, "a")[1], chosen(gallery, "b")[1]) == (False, False)
    press("x")
    assert (chosen(gallery, "a")[0], chosen(gallery, "b")[0]) == first[::-1]
    press("t")
    assert chosen(gallery, "b") == (TRUTH, False) and gallery.is_disabled("#crf-b")
    press("t")
    assert chosen(gallery, "b")[0] == first[0]
    opacity = float(gallery.input_value("#opacity"))
    press("-")
    assert float(gallery.input_value("#opacity")) == opacity - 10
    press("0")
    assert gallery.input_value("#opacity") == "0"
    assert gallery.eval_on_selector(".card canvas", "canvas => getComputedStyle(canvas).opacity") == "0"
    press("0")
    press("+")
    assert float(gallery.input_value("#opacity")) == opacity
    press("o")
    assert gallery.input_value("#order") == "worst"
    for key, panel in (("m", "#confusion"), ("?", "#help")):
        press(key)
        assert gallery.get_attribute(panel, "open") is not None
        press(key)
        assert gallery.get_attribute(panel, "open") is None


def test_arrows_go_from_photo_to_photo_and_enter_shows_one_large(gallery, ids):
    focused = "document.activeElement.closest('.card')?.dataset.id"
    press = gallery.keyboard.press
    press("ArrowRight")
    assert gallery.evaluate(focused) == ids[0]
    press("ArrowRight")
    assert gallery.evaluate(focused) == ids[1]
    press("ArrowLeft")
    press("ArrowDown")  # three photos a line
    assert gallery.evaluate(focused) == ids[3]
    press("ArrowUp")
    assert gallery.evaluate(focused) == ids[0]
    press("Enter")
    assert ids[0] in gallery.inner_text("#large-title")
    wait_until(gallery, "document.querySelectorAll('#large canvas[data-painted]').length === 3")
    press("ArrowRight")
    assert ids[1] in gallery.inner_text("#large-title")
    press("Escape")
    assert gallery.get_attribute("#large", "open") is None
    wait_until(gallery, f"{focused} === '{ids[1]}'")


def test_a_finger_opens_a_photo_and_draws_the_next_one(browser, written, ids):
    reader = Reader(browser, viewport={"width": 390, "height": 844}, has_touch=True)
    page = reader.open(written)
    page.locator(f".card[data-id='{ids[0]}'] .pane-a").tap()
    assert ids[0] in page.inner_text("#large-title")
    page.evaluate(
        """() => {
          const dialog = document.querySelector("#large");
          const touch = (x) => new Touch({ identifier: 1, target: dialog, clientX: x, clientY: 300 });
          dialog.dispatchEvent(new TouchEvent("touchstart", { touches: [touch(300)] }));
          dialog.dispatchEvent(new TouchEvent("touchend", { changedTouches: [touch(100)] }));
        }"""
    )
    assert ids[1] in page.inner_text("#large-title")
    page.tap("#large-close")
    assert page.get_attribute("#large", "open") is None
    reader.check()


def test_a_view_stands_in_its_address(reader, gallery, written, ids):
    gallery.select_option("#run-a", "em_adapt_weak")
    gallery.click("#crf-a")
    gallery.select_option("#run-b", TRUTH)
    gallery.select_option("#order", "worst")
    gallery.locator(".chip").first.click()
    photos, address = shown(gallery), "#" + gallery.url.partition("#")[2]
    again = opened_gallery(reader, written, address)
    assert chosen(again, "a") == ("em_adapt_weak", False) and chosen(again, "b")[0] == TRUTH
    assert again.input_value("#order") == "worst" and shown(again) == photos
    assert again.locator(".chip[aria-pressed=true]").count() == 1
    # A link within the page leaves the choices as they are.
    again.click("a[href='#weak']")
    wait_until(again, "document.querySelector('#weak').getBoundingClientRect().top < 200")
    assert chosen(again, "a") == ("em_adapt_weak", False) and shown(again) == photos
    there = opened_gallery(reader, written, "#weak")
    wait_until(there, "document.querySelector('#weak').getBoundingClientRect().top < 200")
    # What an address says of a run that there is not is nothing.
    other = opened_gallery(reader, written, "#a=nosuch,dcnn&order=nosuch&classes=nosuch")
    assert chosen(other, "a")[1] and shown(other) == ids


def test_weak_images_show_what_was_given_and_every_moment_of_the_e_step(reader, tiny):
    page = opened_gallery(reader, tiny.paths.report / "gallery.html")
    drawn = {run: images_shown(read_estep_maps(tiny.paths.run(run, seed).estep_maps)) for run, seed in tiny.estep_runs}
    assert len(drawn) == 3
    cards = page.locator(".weak")
    assert cards.evaluate_all("cards => cards.map(card => card.dataset.id)") == sorted(set().union(*drawn.values()))
    moments = ["iteration 0", "iteration 3", "iteration 6"]
    for card in cards.all():
        runs = [run for run, images in drawn.items() if card.get_attribute("data-id") in images]
        assert card.locator(".tag").count() and card.locator(".box").count()
        titles = {row.id: row.title for row in tiny.experiments}
        heads = [head.split("\n")[0] for head in card.locator("h3").all_inner_texts()]
        assert [head.startswith(titles[run]) for head, run in zip(heads, runs, strict=True)] == [True] * len(runs)
        said = [text.split("IOU")[0].strip() for text in card.locator("figcaption").all_inner_texts()]
        assert said == ["boxes", "truth, not given", "Bbox-Rect", "Bbox-Seg", *(moments * len(runs))]
