// The cards of the evaluation photos: A and B side by side.

const TRUTH = "truth";
const SIDES = ["a", "b"];
const cards = []; // { photo, node, panes: { a, b } }, a pane { canvas, caption }
const inView = new Set();

const runPlace = (run) => DATA.runs.findIndex(({ id }) => id === run);

function sideName({ run, crf }) {
  if (run === TRUTH) return "Truth";
  return `${DATA.runs[runPlace(run)].label}${crf ? " with CRF" : ""}`;
}

function mapOf(photo, { run, crf }) {
  return run === TRUTH ? photo.truth : photo.maps[runPlace(run)][Number(crf)];
}

function confusionOf(photo, { run, crf }) {
  if (run === TRUTH) return truthsOwn(photo.confusions[0][0]);
  return photo.confusions[runPlace(run)][Number(crf)];
}

const iouOf = (photo, side) => imageIou(confusionOf(photo, side));

function makeCards() {
  const watcher = new IntersectionObserver(noteViews, { rootMargin: "600px" });
  for (const photo of DATA.photos) {
    const card = makeCard(photo);
    cards.push(card);
    watcher.observe(card.node);
  }
  document.querySelector("#cards").append(...cards.map(({ node }) => node));
}

function makeCard(photo) {
  const panes = Object.fromEntries(SIDES.map((side) => [side, makePane(photo, side)]));
  const open = element("button", { type: "button", className: "open", title: "See it large (Enter)" });
  open.setAttribute("aria-label", `Photo ${photo.number}, ${photo.id}: see it large`);
  open.append(`${photo.number}`);
  const head = element("header", {}, open, element("span", { className: "name" }, photo.id));
  if (photo.tuned) head.append(element("span", { className: "tuned", title: "The CRF was tuned on this photo" }, "tuned on"));
  head.append(element("span", { className: "classes" }, ...photo.classes.map(tag)));
  const node = element("article", { className: "card" }, head);
  node.append(element("div", { className: "panes" }, panes.a.node, panes.b.node));
  node.dataset.id = photo.id;
  open.addEventListener("click", () => openLarge(photo));
  for (const { node: pane } of Object.values(panes)) pane.addEventListener("click", () => openLarge(photo));
  return { photo, node, panes };
}

function makePane(photo, side) {
  const made = stack(photo.photo, photo.size, side === "a" ? `Photo ${photo.id}: ${names(photo.classes)}` : "");
  const caption = element("figcaption");
  return { node: element("figure", { className: `pane pane-${side}` }, made, caption), canvas: made.lastChild, caption };
}

function tag(label) {
  return element("span", { className: "tag" }, swatch(label), DATA.labels[label].name);
}

function noteViews(entries) {
  for (const { target, isIntersecting } of entries) {
    const card = cards.find(({ node }) => node === target);
    if (isIntersecting) inView.add(card);
    else inView.delete(card);
  }
  inView.forEach(paintCard);
}

// The photos that the choices leave, in their order.
function chosenCards() {
  const left = cards.filter(({ photo }) => holdsClasses(photo) && holdsCell(photo));
  const value = ORDERS[state.order].value;
  const valued = left.map((card) => ({ card, value: value(card.photo) }));
  // NaN, of a photo that is void, comes last; equal ones stand by number.
  const rank = ({ value: found }) => (Number.isNaN(found) ? Infinity : found);
  valued.sort((one, other) => rank(one) - rank(other) || one.card.photo.number - other.card.photo.number);
  return valued.map(({ card }) => card);
}

const holdsClasses = (photo) => [...state.classes].every((label) => photo.classes.includes(label));
const holdsCell = (photo) => state.cell === null || pixelsSearched(photo) > 0;
const pixelsSearched = (photo) => pixelsOfCell(confusionOf(photo, state.sides[state.cell.side]), state.cell);

function showCards() {
  const chosen = chosenCards();
  const kept = new Set(chosen);
  for (const card of cards) card.node.hidden = !kept.has(card);
  document.querySelector("#cards").append(...chosen.map(({ node }) => node));
  chosen.forEach(describeCard);
  inView.forEach(paintCard);
  return chosen;
}

function describeCard({ photo, panes }) {
  for (const side of SIDES) {
    const iou = percent(iouOf(photo, state.sides[side]));
    panes[side].caption.textContent = `${side.toUpperCase()} ${iou}`;
    panes[side].canvas.setAttribute("aria-label", `${sideName(state.sides[side])} on photo ${photo.id}, ${iou}`);
  }
}

function paintCard({ photo, panes }) {
  for (const side of SIDES) paintSide(panes[side].canvas, photo, side);
}

function paintSide(canvas, photo, side) {
  const shown = state.sides[side];
  const key = [photo.id, shown.run, shown.run === TRUTH || shown.crf];
  if (state.cell?.side === side) {
    key.push("cell", state.cell.truth, state.cell.found);
    return paintCell(canvas, photo.truth, mapOf(photo, shown), state.cell, key.join(" "));
  }
  return paintLabels(canvas, mapOf(photo, shown), state.classes, [...key, ...state.classes].join(" "));
}
