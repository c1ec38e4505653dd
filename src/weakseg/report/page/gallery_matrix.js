// The confusion matrix of A or B over all photos of the page, as a table whose cells can be chosen.

function showMatrix() {
  const panel = document.querySelector("#confusion");
  if (!panel.open) return;
  const side = state.matrixSide;
  const rows = summed(DATA.photos.map((photo) => confusionOf(photo, state.sides[side])));
  document.querySelector("#matrix-run").textContent = sideName(state.sides[side]);
  document.querySelector("#matrix").replaceChildren(matrixTable(rows, side));
}

function matrixTable(rows, side) {
  const shown = [...new Set([...rows].flatMap(([truth, row]) => [truth, ...row.keys()]))].sort((a, b) => a - b);
  const head = element("tr", {}, element("th", { scope: "col" }, "true class"), ...shown.map(columnHead));
  const lines = shown.filter((truth) => rows.has(truth)).map((truth) => matrixRow(truth, rows.get(truth), shown, side));
  return element("table", { className: "matrix" }, element("thead", {}, head), element("tbody", {}, ...lines));
}

function columnHead(label) {
  return element("th", { scope: "col" }, element("span", {}, DATA.labels[label].name));
}

function matrixRow(truth, row, shown, side) {
  const all = [...row.values()].reduce((sum, pixels) => sum + pixels, 0);
  const cells = shown.map((found) => matrixCell({ side, truth, found }, row.get(found) ?? 0, all));
  return element("tr", {}, element("th", { scope: "row" }, swatch(truth), DATA.labels[truth].name), ...cells);
}

function matrixCell(cell, pixels, all) {
  if (pixels === 0) return element("td");
  const share = (100 * pixels) / all;
  const text = share >= 0.5 ? share.toFixed(0) : "·";
  const button = element("button", { type: "button", className: cell.truth === cell.found ? "right" : "wrong" }, text);
  const [truth, found] = [cell.truth, cell.found].map((label) => DATA.labels[label].name);
  button.style.setProperty("--share", `${Math.sqrt(share) * 10}%`); // the root, so that small shares are seen
  button.title = `${truth} taken for ${found}: ${share.toFixed(1)} %, ${pixels.toLocaleString("en")} pixels`;
  button.setAttribute("aria-label", button.title);
  button.setAttribute("aria-pressed", String(sameCell(state.cell, cell)));
  button.dataset.cell = `${cell.truth} ${cell.found}`;
  button.addEventListener("click", () => chooseCell(sameCell(state.cell, cell) ? null : cell));
  return element("td", {}, button);
}

function sameCell(one, other) {
  return one !== null && ["side", "truth", "found"].every((part) => one[part] === other[part]);
}

// Its photos are shown, those with most of its pixels first.
function chooseCell(cell) {
  const order = cell ? "pixels" : state.order === "pixels" ? "number" : state.order;
  change({ cell, order });
  if (cell) document.querySelector("#status").scrollIntoView({ block: "center", behavior: "smooth" });
}
