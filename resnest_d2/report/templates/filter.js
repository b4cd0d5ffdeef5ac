"use strict";
// Filters the worst images of each dataset by class and kind of mistake; "" stands for all.
const filters = new Map();

function addFilter(part) {
  const form = part.querySelector("form");
  const grid = part.querySelector(".images");
  const first = new Set(grid.children);
  const figures = [...part.querySelectorAll("figure")];
  const mistakes = new Map(figures.map((figure) => [figure, JSON.parse(figure.dataset.mistakes)]));
  part.querySelector("details")?.remove();

  function count(figure, of, kind) {
    const kinds = mistakes.get(figure)[of] ?? {};
    return kind ? kinds[kind] ?? 0 : Object.values(kinds).reduce((sum, n) => sum + n, 0);
  }

  function show(of, kind) {
    form.elements.of.value = of;
    form.elements.kind.value = kind;
    const all = of === "" && kind === "";
    const shown = figures.filter((f) => (all ? first.has(f) : count(f, of, kind)));
    shown.sort((a, b) => count(b, of, kind) - count(a, of, kind));
    grid.replaceChildren(...shown);
    grid.dataset.kind = kind;
    form.querySelector("output").value =
      shown.length === 0 ? "No image has such a mistake." :
      shown.length === 1 ? "1 image is shown." : `${shown.length} images are shown.`;
  }

  form.addEventListener("change", () => show(form.elements.of.value, form.elements.kind.value));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show("", "");
  filters.set(part.querySelector("h3").id, show);
}

document.querySelectorAll(".worst").forEach(addFilter);
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-of]");
  if (link) filters.get(link.hash.slice(1))?.(link.dataset.of, "");
});
