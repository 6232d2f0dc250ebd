
(() => {
  "use strict";
  const table = document.getElementById("groups") ?? document.getElementById("libraries");
  if (!table) return;
  const heads = [...table.tHead.rows[0].cells];
  const words = new Intl.Collator(document.documentElement.lang, { numeric: true, sensitivity: "base" });

  // The sum's row has fewer cells; only groups are sorted.
  const keyOf = (body, column, isNumber) => {
    const text = body.rows[0].cells[column].firstChild?.textContent ?? "";
    return isNumber ? Number(text.replace(/[^\d.-]/g, "")) || 0 : text;
  };

  const sort = (column) => {
    const head = heads[column];
    const isNumber = head.dataset.kind === "number";
    const before = head.getAttribute("aria-sort");
    const descending = before ? before === "ascending" : isNumber;
    const keyed = [...table.tBodies].map((body) => [keyOf(body, column, isNumber), body]);
    keyed.sort(([a], [b]) => (isNumber ? a - b : words.compare(a, b)) * (descending ? -1 : 1));
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    table.dataset.sorted = "";
    table.tFoot.before(...keyed.map(([, body]) => body));
  };

  heads.forEach((head, column) => {
    if (head.classList.contains("files")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(column));
    head.replaceChildren(button);
  });

  // Some browsers forget what a table is when it is laid out as cards.
  const roles = { TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TFOOT: "rowgroup", TR: "row", TD: "cell" };
  if (matchMedia("(max-width: 45.99rem)").matches) {
    for (const part of [table, ...table.querySelectorAll("*")]) {
      const role = part.tagName === "TH" ? (part.scope === "row" ? "rowheader" : "columnheader") : roles[part.tagName];
      if (role) part.setAttribute("role", role);
    }
  }

  const folds = [...table.querySelectorAll("details")];
  if (!folds.length) return;
  const setAll = (open) => folds.forEach((fold) => { fold.open = open; });
  const toggle = document.createElement("button");
  toggle.type = "button";
  const label = (open) => { toggle.textContent = open ? "Hide all members" : "Show all members"; };
  label(false);
  toggle.addEventListener("click", () => {
    const open = !folds.every((fold) => fold.open);
    setAll(open);
    label(open);
  });
  document.querySelector(".tools").append(toggle);

  // For browsers that can't unfold by style sheet alone.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = folds.filter((fold) => !fold.open);
    setAll(true);
  });
  addEventListener("afterprint", () => closed.forEach((fold) => { fold.open = false; }));
})();
