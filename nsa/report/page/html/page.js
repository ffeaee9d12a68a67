// Sorting of tables, copying, the theme, and how far the second sticky column is from the left.
"use strict";

function key(cell) {
  const text = cell.textContent.trim();
  const figure = parseFloat(text);
  return Number.isNaN(figure) ? text : figure;
}

function before(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  if (typeof one === "number") return -1; // figures come before what has none
  if (typeof other === "number") return 1;
  return one.localeCompare(other);
}

function sort(table, header) {
  const ascending = header.getAttribute("aria-sort") !== "ascending";
  for (const other of header.parentElement.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const column = header.cellIndex;
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => (ascending ? 1 : -1) * before(key(a.cells[column]), key(b.cells[column])));
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const header of table.tHead.rows[0].cells) {
    header.querySelector("button").addEventListener("click", () => sort(table, header));
  }
}

function measureColumns() {
  for (const table of document.querySelectorAll("table.sticky2")) {
    table.style.setProperty("--first", `${table.tHead.rows[0].cells[0].offsetWidth}px`);
  }
}
measureColumns();
window.addEventListener("resize", measureColumns);
document.addEventListener("toggle", measureColumns, true); // a table that was folded has no width

for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const shown = button.parentElement.querySelector("pre");
    try {
      await navigator.clipboard.writeText(shown.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(shown); // where a page may not write, its reader copies what is selected
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  root.dataset.theme = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
});
