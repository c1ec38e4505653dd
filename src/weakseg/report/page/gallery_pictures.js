// Photos with label maps on them. A label map is a PNG in which label n has the colour (n, n, n); it is coloured here.

const VOID = 255;
const MOST_KEPT = 400;
const decoded = new Map(); // text of a PNG -> promise of its labels, the ones used last at the end

function labelsOf(png) {
  const labels = decoded.get(png) ?? decode(png);
  decoded.delete(png);
  decoded.set(png, labels);
  if (decoded.size > MOST_KEPT) decoded.delete(decoded.keys().next().value);
  return labels;
}

// Width, height and labels (row by row) of a PNG.
async function decode(png) {
  const picture = new Image();
  picture.src = `data:image/png;base64,${png}`;
  await picture.decode();
  const { naturalWidth: width, naturalHeight: height } = picture;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const values = context.getImageData(0, 0, width, height).data;
  return { width, height, labels: Uint8Array.from({ length: width * height }, (_, i) => values[4 * i]) };
}

const rgba = (red, green, blue, alpha) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
const DIMMED = rgba(0, 0, 0, 110), FAINT = rgba(150, 150, 150, 130), UNKNOWN = rgba(255, 255, 255, 170);
const SEARCHED = rgba(255, 0, 190, 255);

// The colour of each label 0..255. The background darkens the photo a little; of the classes only those in `lit` have
// their colours, or all where it is empty.
function colourTable(lit) {
  const table = new Uint32Array(256).fill(UNKNOWN);
  DATA.labels.forEach(({ colour }, label) => {
    table[label] = lit.size === 0 || lit.has(label) ? rgba(...colour, 255) : FAINT;
  });
  table[0] = DIMMED;
  return table;
}

function fill(canvas, { width, height }, colourOf) {
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i += 1) pixels[i] = colourOf(i);
  context.putImageData(image, 0, 0);
}

// Paint a label map; of several calls for one canvas the last one counts. `key` says what is asked for.
async function paintLabels(canvas, png, lit, key) {
  if (!begins(canvas, key)) return;
  const map = await labelsOf(png);
  if (canvas.dataset.wanted !== key) return;
  const table = colourTable(lit);
  fill(canvas, map, (i) => table[map.labels[i]]);
  canvas.dataset.painted = key;
}

// Paint only the pixels of one true label that have one predicted label.
async function paintCell(canvas, truthPng, foundPng, cell, key) {
  if (!begins(canvas, key)) return;
  const [truth, found] = await Promise.all([labelsOf(truthPng), labelsOf(foundPng)]);
  if (canvas.dataset.wanted !== key) return;
  const searched = (i) => truth.labels[i] === cell.truth && found.labels[i] === cell.found;
  fill(canvas, truth, (i) => (searched(i) ? SEARCHED : DIMMED));
  canvas.dataset.painted = key;
}

function begins(canvas, key) {
  if (canvas.dataset.wanted === key) return false;
  canvas.dataset.wanted = key;
  return true;
}

const names = (labels) => labels.map((label) => DATA.labels[label].name).join(", ") || "no object";
const percent = (iou) => (iou === null || Number.isNaN(iou) ? "" : `IOU ${iou.toFixed(0)} %`);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// A photo with a canvas for labels on it, in its own proportions.
function stack(photo, size, alt) {
  const image = element("img", { src: `data:image/jpeg;base64,${photo}`, alt, decoding: "async", draggable: false });
  const canvas = element("canvas", { width: 1, height: 1 });
  canvas.setAttribute("role", "img");
  const made = element("div", { className: "stack" }, image, canvas);
  made.style.aspectRatio = `${size[1]} / ${size[0]}`;
  made.style.setProperty("--ratio", size[1] / size[0]);
  return made;
}

function swatch(label) {
  const made = element("span", { className: "swatch" });
  made.style.background = `rgb(${DATA.labels[label].colour.join(" ")})`;
  return made;
}
