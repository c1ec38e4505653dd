// What is chosen, the controls that choose it, and the keys.

const DATA = JSON.parse(document.querySelector("#data").textContent);
const ORDERS = {
  number: { text: "by number", value: () => 0 },
  worst: { text: "A: lowest IOU first", value: (photo) => iouOf(photo, state.sides.a) },
  best: { text: "A: highest IOU first", value: (photo) => -iouOf(photo, state.sides.a) },
  gain: { text: "B most above A first", value: (photo) => gainOfB(photo) * -1 },
  loss: { text: "A most above B first", value: (photo) => gainOfB(photo) },
  pixels: { text: "most pixels of the cell first", value: (photo) => (state.cell ? -pixelsSearched(photo) : 0) },
};
const gainOfB = (photo) => iouOf(photo, state.sides.b) - iouOf(photo, state.sides.a);

const state = {
  sides: { a: { run: DATA.first[0], crf: true }, b: { run: DATA.first[1], crf: true } },
  opacity: 75,
  classes: new Set(), // labels
  order: "number",
  cell: null, // { side, truth, found }
  matrixSide: "a",
};
let hiddenOpacity = 0; // what 0 brings back
let beforeTruth = null; // what B showed before t

const find = (id) => document.querySelector(`#${id}`);

function change(changes) {
  Object.assign(state, changes);
  if (state.cell && changes.sides) state.cell = null; // it was one of the matrix that is gone
  if (!state.cell && state.order === "pixels") state.order = "number";
  show();
}

function changeSide(side, changes) {
  change({ sides: { ...state.sides, [side]: { ...state.sides[side], ...changes } } });
}

function show() {
  showOpacity();
  showControls();
  const chosen = showCards();
  showMatrix();
  showStatus(chosen.length);
  writeAddress();
  if (largeDialog().open) openLarge(largePhoto);
}

function showControls() {
  for (const side of SIDES) {
    const { run, crf } = state.sides[side];
    find(`run-${side}`).value = run;
    press(find(`crf-${side}`), crf && run !== TRUTH);
    find(`crf-${side}`).disabled = run === TRUTH;
    press(find(`matrix-${side}`), state.matrixSide === side);
  }
  find("order").querySelector("[value=pixels]").disabled = !state.cell;
  find("order").value = state.order;
  for (const chip of find("chips").children) press(chip, state.classes.has(Number(chip.dataset.label)));
}

function showOpacity() {
  document.body.style.setProperty("--opacity", state.opacity / 100);
  find("opacity").value = state.opacity;
}

// Nothing is painted anew: the style sheet lays the labels over the photos.
function setOpacity(opacity) {
  state.opacity = Math.min(100, Math.max(0, opacity));
  showOpacity();
}

const press = (button, on) => button.setAttribute("aria-pressed", String(on));

function showStatus(count) {
  const parts = [count === cards.length ? `All ${count} photos` : `${count} of ${cards.length} photos`];
  if (state.classes.size) parts.push(`with ${names([...state.classes])}`);
  if (state.cell) {
    const [truth, found] = [state.cell.truth, state.cell.found].map((label) => DATA.labels[label].name);
    const does = truth === found ? `finds ${truth}` : `takes ${truth} for ${found}`;
    parts.push(`where ${state.cell.side.toUpperCase()} ${does}`);
  }
  find("status").textContent = parts.join(" ");
  find("clear").hidden = !(state.classes.size || state.cell);
}

const showAll = () => change({ classes: new Set(), cell: null });

// The choices stand in the address, so that a view can be kept and passed on.
function writeAddress() {
  const words = new URLSearchParams();
  for (const side of SIDES) words.set(side, state.sides[side].run + (state.sides[side].crf ? "" : ",dcnn"));
  if (state.classes.size) words.set("classes", [...state.classes].map((label) => DATA.labels[label].name).join(","));
  if (!["number", "pixels"].includes(state.order)) words.set("order", state.order);
  history.replaceState(null, "", `#${words.toString().replaceAll("%2C", ",")}`);
}

function readAddress() {
  if (!location.hash.includes("=")) return; // none, or the name of a section
  const words = new URLSearchParams(location.hash.slice(1));
  for (const side of SIDES) {
    const [run, stage] = (words.get(side) ?? "").split(",");
    if (run === TRUTH || runPlace(run) >= 0) state.sides[side] = { run, crf: stage !== "dcnn" };
  }
  const labels = (words.get("classes") ?? "").split(",").map((name) => DATA.labels.findIndex((one) => one.name === name));
  state.classes = new Set(labels.filter((label) => label > 0));
  if (words.get("order") in ORDERS) state.order = words.get("order");
}

function makeControls() {
  for (const side of SIDES) {
    find(`run-${side}`).append(...runOptions());
    find(`run-${side}`).addEventListener("change", ({ target }) => changeSide(side, { run: target.value }));
    find(`crf-${side}`).addEventListener("click", () => changeSide(side, { crf: !state.sides[side].crf }));
    find(`matrix-${side}`).addEventListener("click", () => change({ matrixSide: side }));
  }
  find("swap").addEventListener("click", swap);
  find("opacity").addEventListener("input", ({ target }) => setOpacity(Number(target.value)));
  find("order").append(...Object.entries(ORDERS).map(([value, { text }]) => element("option", { value }, text)));
  find("order").addEventListener("change", ({ target }) => change({ order: target.value }));
  find("confusion").addEventListener("toggle", showMatrix);
  find("clear").addEventListener("click", showAll);
  makeChips();
}

function runOptions() {
  const groups = new Map();
  for (const { id, label, table, iou } of DATA.runs) {
    if (!groups.has(table)) groups.set(table, element("optgroup", { label: table }));
    groups.get(table).append(element("option", { value: id }, `${label} (${iou.crf.toFixed(1)})`));
  }
  return [element("option", { value: TRUTH }, "Truth"), ...groups.values()];
}

function makeChips() {
  DATA.labels.forEach(({ name }, label) => {
    const count = DATA.photos.filter(({ classes }) => classes.includes(label)).length;
    if (!count) return;
    const chip = element("button", { type: "button", className: "chip", title: `${count} photos` });
    chip.append(swatch(label), name, element("span", { className: "count" }, `${count}`));
    chip.dataset.label = label;
    chip.addEventListener("click", () => toggleClass(label));
    find("chips").append(chip);
  });
}

function toggleClass(label) {
  const classes = new Set(state.classes);
  if (!classes.delete(label)) classes.add(label);
  change({ classes });
}

const swap = () => change({ sides: { a: state.sides.b, b: state.sides.a } });

function nextRun(side, step) {
  const runs = [TRUTH, ...DATA.runs.map(({ id }) => id)];
  const place = runs.indexOf(state.sides[side].run) + step;
  changeSide(side, { run: runs[(place + runs.length) % runs.length] });
}

function toggleTruth() {
  const shown = state.sides.b;
  if (shown.run !== TRUTH) beforeTruth = shown.run;
  changeSide("b", { run: shown.run === TRUTH ? beforeTruth ?? DATA.first[1] : TRUTH });
}

function toggleLabels() {
  const opacity = state.opacity ? 0 : hiddenOpacity || 75;
  hiddenOpacity = state.opacity;
  setOpacity(opacity);
}

const fade = (step) => setOpacity(state.opacity + step);

function nextOrder() {
  const orders = Object.keys(ORDERS).filter((order) => order !== "pixels" || state.cell);
  change({ order: orders[(orders.indexOf(state.order) + 1) % orders.length] });
}

function togglePanel(id) {
  find(id).open = !find(id).open;
  if (find(id).open) find(id).scrollIntoView({ block: "nearest" });
}

function focusPhoto(photo) {
  const card = cards.find((one) => one.photo === photo);
  if (card && !card.node.hidden) card.node.querySelector(".open").focus();
}

// From the card that has the focus to another one: along the line, or to the line below or above.
function move(across, down) {
  if (largeDialog().open) return across ? stepLarge(across) : undefined;
  const shown = chosenCards();
  const place = shown.findIndex(({ node }) => node.contains(document.activeElement));
  const columns = shown.filter(({ node }) => node.offsetTop === shown[0].node.offsetTop).length;
  const next = shown[place < 0 ? 0 : place + across + down * columns];
  if (next) next.node.querySelector(".open").focus();
  next?.node.scrollIntoView({ block: "nearest" });
}

const KEYS = {
  ArrowLeft: () => move(-1, 0), ArrowRight: () => move(1, 0), ArrowUp: () => move(0, -1), ArrowDown: () => move(0, 1),
  a: () => nextRun("a", 1), A: () => nextRun("a", -1), b: () => nextRun("b", 1), B: () => nextRun("b", -1),
  1: () => changeSide("a", { crf: !state.sides.a.crf }), 2: () => changeSide("b", { crf: !state.sides.b.crf }),
  t: toggleTruth, x: swap, 0: toggleLabels, "-": () => fade(-10), "+": () => fade(10), "=": () => fade(10),
  o: nextOrder, m: () => togglePanel("confusion"), "?": () => togglePanel("help"),
  Escape: () => largeDialog().open || showAll(),
};

function onKey(event) {
  const typing = event.target.closest("select, input");
  if (typing && event.key === "Escape") typing.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
  // Up and down scroll the page until a photo has the focus.
  const vertical = ["ArrowUp", "ArrowDown"].includes(event.key);
  if (vertical && !document.activeElement.closest(".card")) return;
  if (event.key !== "Escape") event.preventDefault();
  KEYS[event.key]();
}

makeControls();
makeCards();
makeWeak();
makeLarge();
const section = document.getElementById(location.hash.slice(1));
readAddress();
show();
section?.scrollIntoView(); // the cards above it were not there when the browser looked for it
addEventListener("keydown", onKey);
addEventListener("hashchange", () => { readAddress(); show(); });
