// The weak training images: what the methods were given, and the label maps they made of it.

function makeWeak() {
  const place = document.querySelector("#weak-images");
  if (!place) return;
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) if (isIntersecting) target.paint();
  }, { rootMargin: "600px" });
  for (const image of DATA.weak.images) {
    const node = weakCard(image);
    place.append(node);
    watcher.observe(node);
  }
}

function weakCard(image) {
  const head = element("header", {}, element("span", { className: "name" }, image.id));
  head.append(element("span", { className: "classes" }, "image-level labels:", ...image.tags.map(tag)));
  const painted = []; // canvas and map, painted when the card comes into view
  const rows = [givenRow(image, painted), ...DATA.weak.methods.map((method) => methodRow(image, method, painted))];
  const node = element("article", { className: "weak" }, head, ...rows.filter(Boolean));
  node.dataset.id = image.id;
  node.paint = () => painted.forEach(({ canvas, map }) => paintLabels(canvas, map, new Set(), image.id));
  return node;
}

function givenRow(image, painted) {
  const made = stack(image.photo, image.size, `Training photo ${image.id}: ${names(image.tags)}`);
  made.lastChild.remove();
  made.append(...image.boxes.map(boxOutline));
  const figures = [element("figure", {}, made, element("figcaption", {}, image.boxes.length ? "boxes" : "photo"))];
  if (image.truth) figures.push(mapFigure(image, "truth, not given", { map: image.truth, iou: null }, painted));
  figures.push(...image.made.map((found) => mapFigure(image, found.name, found, painted)));
  return element("div", { className: "maps given" }, ...figures);
}

function boxOutline([label, top, left, bottom, right]) {
  const share = (value) => `${100 * value}%`;
  const made = element("div", { className: "box", title: DATA.labels[label].name });
  Object.assign(made.style, { top: share(top), left: share(left), height: share(bottom - top), width: share(right - left) });
  made.style.borderColor = `rgb(${DATA.labels[label].colour.join(" ")})`;
  return made;
}

function methodRow(image, method, painted) {
  const found = image.estep[method.run];
  if (!found.length) return null;
  const figures = found.map((one, place) => {
    return mapFigure(image, `iteration ${method.iterations[place].toLocaleString("en")}`, one, painted);
  });
  const title = element("h3", {}, method.label, element("span", {}, `E-step from ${method.given}`));
  return element("section", {}, title, element("div", { className: "maps" }, ...figures));
}

function mapFigure(image, title, { map, iou }, painted) {
  const made = stack(image.photo, image.size, "");
  made.lastChild.setAttribute("aria-label", `${title}: label map of training photo ${image.id}`);
  painted.push({ canvas: made.lastChild, map });
  return element("figure", {}, made, element("figcaption", {}, title, element("span", {}, percent(iou))));
}
