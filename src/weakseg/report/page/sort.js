/* Tables sort by a click on a heading, or by Enter or Space on it; a second one turns the order round. */
addEventListener("DOMContentLoaded", () => {
  const value = (cell, words) => {
    const text = cell ? cell.textContent.trim() : "";
    const number = !words && text.replaceAll(",", "").replaceAll("\u2212", "-").match(/^[^\d-]*(-?\d+(\.\d+)?)/);
    return { text, number: number ? Number(number[1]) : NaN };
  };
  const compare = (a, b) => {
    if (!isNaN(a.number) && !isNaN(b.number)) return a.number - b.number;
    return a.text.localeCompare(b.text, "en");
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        headings.forEach(other => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const words = heading.classList.contains("text");
        const rows = [...table.tBodies[0].rows].map(row => ({ row, ...value(row.cells[column], words) }));
        const missing = known => known.text === "" || known.text === "\u2013";
        rows.sort((a, b) => missing(a) - missing(b) || (down ? -1 : 1) * compare(a, b));
        table.tBodies[0].append(...rows.map(known => known.row));
      });
    });
  }
});
