/* The sliders of the plot of IOU against annotation cost: prices move points, fronts and the table's numbers. */
addEventListener("DOMContentLoaded", () => {
  const chart = document.querySelector(".cost");
  if (!chart) return;
  const facts = JSON.parse(chart.dataset.facts);
  const across = share => {
    const place = Math.log(Math.min(Math.max(share, facts.lowest), facts.highest) / facts.lowest);
    return place / Math.log(facts.highest / facts.lowest) * facts.width;
  };
  const update = () => {
    const prices = { box: facts.prices.boxes };
    for (const slider of chart.querySelectorAll("input")) {
      prices[slider.name] = Number(slider.value);
      slider.nextElementSibling.value = slider.value;
    }
    const points = { ours: [], paper: [] };
    for (const mark of chart.querySelectorAll("[data-strong]")) {
      const { whose, strong, weak, annotation, y, cost } = mark.dataset;
      const boxes = strong * prices.pixels + weak * (annotation === "box" ? prices.box : prices.image);
      const share = 100 * boxes / (facts.images[whose] * prices.pixels);
      mark.setAttribute("transform", `translate(${across(share).toFixed(1)} ${y})`);
      points[whose].push([share, Number(y)]);
      if (!cost) continue;
      document.getElementById(`${cost}-cost`).textContent = boxes.toLocaleString("en", { maximumFractionDigits: 0 });
      document.getElementById(`${cost}-share`).textContent = share.toFixed(1);
    }
    for (const [whose, known] of Object.entries(points)) {
      known.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
      const front = known.filter(([, y], at) => known.slice(0, at).every(before => before[1] > y));
      chart.querySelector(`polyline.${whose}`).setAttribute("points", front.map(([s, y]) => `${across(s)},${y}`).join(" "));
    }
  };
  chart.addEventListener("input", update);
});
