// Confusions and what is made of them. A confusion is one list of the cells that are not 0: true label, predicted
// label, pixels, true label, and so on. Void pixels are in none.

function* cellsIn(confusion) {
  for (let i = 0; i < confusion.length; i += 3) {
    yield { truth: confusion[i], found: confusion[i + 1], pixels: confusion[i + 2] };
  }
}

// The confusion of labels that are the truth itself, from that of any others.
function truthsOwn(confusion) {
  const pixels = new Map();
  for (const cell of cellsIn(confusion)) pixels.set(cell.truth, (pixels.get(cell.truth) ?? 0) + cell.pixels);
  return [...pixels].flatMap(([label, count]) => [label, label, count]);
}

// IOU in percent by label, for the labels that occur in truth or prediction.
function labelIous(confusion) {
  const hits = new Map(), union = new Map();
  const add = (counts, label, pixels) => counts.set(label, (counts.get(label) ?? 0) + pixels);
  for (const { truth, found, pixels } of cellsIn(confusion)) {
    add(union, truth, pixels);
    if (truth === found) add(hits, truth, pixels);
    else add(union, found, pixels);
  }
  const labels = [...union.keys()].sort((one, other) => one - other);
  return new Map(labels.map((label) => [label, (100 * (hits.get(label) ?? 0)) / union.get(label)]));
}

// Mean IOU of one image in percent, as `weakseg.metrics.image_iou` reckons it; NaN where all is void.
function imageIou(confusion) {
  const ious = [...labelIous(confusion).values()];
  return ious.reduce((sum, iou) => sum + iou, 0) / ious.length;
}

function pixelsOfCell(confusion, chosen) {
  for (const cell of cellsIn(confusion)) {
    if (cell.truth === chosen.truth && cell.found === chosen.found) return cell.pixels;
  }
  return 0;
}

// The sum of confusions: true label -> predicted label -> pixels.
function summed(confusions) {
  const rows = new Map();
  for (const confusion of confusions) {
    for (const { truth, found, pixels } of cellsIn(confusion)) {
      if (!rows.has(truth)) rows.set(truth, new Map());
      rows.get(truth).set(found, (rows.get(truth).get(found) ?? 0) + pixels);
    }
  }
  return rows;
}
