// One photo large: as it is, with its truth, with A and with B, and the IOU of its classes.

let largePhoto = null;
const largeDialog = () => document.querySelector("#large");

function openLarge(photo) {
  largePhoto = photo;
  if (!largeDialog().open) largeDialog().showModal();
  const panes = [
    largePane(photo, "Photo", null),
    largePane(photo, "Truth", { run: TRUTH, crf: false }),
    ...SIDES.map((side) => largePane(photo, `${side.toUpperCase()}: ${sideName(state.sides[side])}`, state.sides[side])),
  ];
  document.querySelector("#large-title").textContent = `${photo.number}: ${photo.id}`;
  document.querySelector("#large-panes").replaceChildren(...panes);
  document.querySelector("#large-ious").replaceChildren(iouTable(photo));
}

function largePane(photo, title, shown) {
  const alt = shown ? "" : `Photo ${photo.id}: ${names(photo.classes)}`;
  const made = stack(photo.photo, photo.size, alt);
  if (shown) {
    made.lastChild.setAttribute("aria-label", `${title} on photo ${photo.id}`);
    paintLabels(made.lastChild, mapOf(photo, shown), state.classes, title);
  } else made.lastChild.remove();
  return element("figure", {}, made, element("figcaption", {}, title));
}

function iouTable(photo) {
  const found = SIDES.map((side) => labelIous(confusionOf(photo, state.sides[side])));
  const labels = [...new Set(found.flatMap((ious) => [...ious.keys()]))].sort((one, other) => one - other);
  const line = (head, values) =>
    element("tr", {}, element("th", { scope: "row", className: "text" }, ...head), ...values.map((value) => element("td", {}, value)));
  const text = (iou) => (iou === undefined || Number.isNaN(iou) ? "–" : iou.toFixed(1));
  const rows = labels.map((label) => line([swatch(label), DATA.labels[label].name], found.map((ious) => text(ious.get(label)))));
  rows.push(line(["mean"], SIDES.map((side) => text(iouOf(photo, state.sides[side])))));
  const head = element("tr", {}, ...["IOU in percent", "A", "B"].map((name) => element("th", { scope: "col" }, name)));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
}

function stepLarge(step) {
  const shown = chosenCards().map(({ photo }) => photo);
  const place = shown.indexOf(largePhoto) + step;
  if (shown[place]) openLarge(shown[place]);
}

function makeLarge() {
  const dialog = largeDialog();
  const press = (id, action) => document.querySelector(id).addEventListener("click", action);
  press("#large-close", () => dialog.close());
  press("#large-before", () => stepLarge(-1));
  press("#large-next", () => stepLarge(1));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => focusPhoto(largePhoto));
  swipes(dialog);
}

// A finger drawn sideways goes on to the next photo.
function swipes(dialog) {
  let from = null;
  dialog.addEventListener("touchstart", ({ touches }) => { from = touches.length === 1 ? touches[0] : null; }, { passive: true });
  dialog.addEventListener("touchend", ({ changedTouches: [to] }) => {
    if (!from) return;
    const [across, down] = [to.clientX - from.clientX, to.clientY - from.clientY];
    if (Math.abs(across) > 60 && Math.abs(across) > 2 * Math.abs(down)) stepLarge(across < 0 ? 1 : -1);
  }, { passive: true });
}
