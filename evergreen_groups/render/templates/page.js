(() => {
  "use strict";
  const tables = [...document.querySelectorAll("#groups, #libraries, .findings")];
  if (!tables.length) return;
  const words = new Intl.Collator(document.documentElement.lang, { numeric: true, sensitivity: "base" });
  // Amounts in the smallest unit of their currency, whatever stands between their digits.
  const numberIn = (text) => Number(text.replace(/\D/g, "")) * (/[-−]/.test(text) ? -1 : 1);

  // The texts in the page's language, by the English ones; English itself has none.
  const texts = JSON.parse(document.getElementById("texts")?.textContent ?? '{"plurals": {}, "texts": {}}');
  // Nobody speaks the tests' own language: its numbers are those of the one whose letters it has.
  const tag = document.documentElement.lang === "ar-XB" ? "he" : document.documentElement.lang;
  const numbers = new Intl.NumberFormat(tag);
  const filled = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
  const gettext = (text, values = {}) => filled(texts.texts[text] ?? text, values);

  // The sum's row has fewer cells; only row groups are sorted.
  const keyOf = (body, column, isNumber) => {
    const text = body.rows[0].cells[column].firstChild?.textContent ?? "";
    return isNumber ? numberIn(text) : text;
  };

  const sort = (table, column) => {
    const heads = [...table.tHead.rows[0].cells];
    const head = heads[column];
    const isNumber = head.dataset.kind === "number";
    const before = head.getAttribute("aria-sort");
    const descending = before ? before === "ascending" : isNumber;
    const keyed = [...table.tBodies].map((body) => [keyOf(body, column, isNumber), body]);
    keyed.sort(([a], [b]) => (isNumber ? a - b : words.compare(a, b)) * (descending ? -1 : 1));
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    table.dataset.sorted = "";
    const sorted = keyed.map(([, body]) => body);
    if (table.tFoot) table.tFoot.before(...sorted);
    else table.append(...sorted);
  };

  const makeSortable = (table) => [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (head.classList.contains("files")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(table, column));
    head.replaceChildren(button);
  });

  // Some browsers forget what a table is when it is laid out otherwise. Of thousands of groups, as they come near.
  const roles = { TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TFOOT: "rowgroup", TR: "row", TD: "cell" };
  const named = new WeakSet();
  const nameParts = (parts) => {
    for (const part of parts) {
      const role = part.tagName === "TH" ? (part.scope === "row" ? "rowheader" : "columnheader") : roles[part.tagName];
      if (role) part.setAttribute("role", role);
    }
  };
  const namePartsOf = (body) => {
    if (named.has(body)) return;
    named.add(body);
    nameParts([body, ...body.querySelectorAll("*")]);
  };
  for (const table of tables) {
    makeSortable(table);
    const frame = [table, ...table.querySelectorAll("thead, thead *, tfoot, tfoot *")];
    nameParts(frame.filter((part) => !part.closest("tbody")));
    if ("oncontentvisibilityautostatechange" in window) {
      table.addEventListener("contentvisibilityautostatechange", ({ target, skipped }) => {
        if (!skipped && target.tagName === "TBODY") namePartsOf(target);
      });
    }
  }

  const tools = document.querySelector(".tools");
  if (!tools) return;
  tools.hidden = false;
  const [find, at, only, unfold, printed, shown] = ["find", "at", "only", "unfold", "print-members", "shown"].map(
    (id) => document.getElementById(id),
  );

  // Letters that aren't made of a plain one and a mark, for whoever searches without them.
  const letters = { æ: "ae", đ: "d", ð: "d", ı: "i", ł: "l", ø: "o", œ: "oe", ß: "ss", þ: "th" };
  const plain = (text) => {
    return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase().replace(/[æđðıłøœßþ]/g, (letter) => letters[letter]);
  };
  const groups = tables.flatMap((table) => [...table.tBodies]);
  // What a row group has under a heading, nothing where its table has none of that name.
  const columns = new Map(tables.map((table) => {
    if (table.matches(".findings")) return [table, ["", "library"]];
    return [table, [...table.tHead.rows[0].cells].map((head) => head.dataset.column)];
  }));
  const textUnder = (body, column) => {
    return body.rows[0].cells[columns.get(body.closest("table")).indexOf(column)]?.textContent ?? "";
  };
  const libraryOf = (body) => textUnder(body, "library");
  const withSum = groups.some((body) => textUnder(body, "total"));
  [...new Set(groups.map(libraryOf))].sort(words.compare).forEach((name) => at.append(new Option(name, name)));
  at.closest("p").hidden = at.options.length < 3;

  // Looked up when somebody first searches: names, barcodes and the group's number.
  const searchable = new Map();
  const textOf = (body) => {
    if (!searchable.has(body)) {
      const parts = body.querySelectorAll("bdi, tr:first-child > th, .findings > tbody > tr:first-child > td:nth-child(3), tbody > tr > td:nth-child(2)");
      searchable.set(body, plain([...parts].map((part) => part.textContent).join(" ")));
    }
    return searchable.get(body);
  };

  const amounts = new Intl.NumberFormat(tag, { style: "currency", currency: document.documentElement.dataset.currency });
  const unit = 10 ** amounts.resolvedOptions().maximumFractionDigits;
  const describeShown = (count, sum) => {
    const values = { shown: numbers.format(count), all: numbers.format(groups.length), owed: amounts.format(sum / unit) };
    if (shown.dataset.noun === "findings") return gettext("Findings shown: {shown} of {all}", values);
    if (!withSum) return gettext("Groups shown: {shown} of {all}", values);
    return gettext("Groups shown: {shown} of {all}; combined fines: {owed}", values);
  };
  const filter = () => {
    const wanted = plain(find.value).split(/\s+/).filter(Boolean);
    const fits = (body) =>
      (!at.value || libraryOf(body) === at.value) &&
      (!only?.value || body.dataset.is.split(" ").includes(only.value)) &&
      (!wanted.length || wanted.every((word) => textOf(body).includes(word)));
    let count = 0;
    let sum = 0;
    for (const body of groups) {
      const fitting = fits(body);
      body.hidden = !fitting;
      if (!fitting) continue;
      count += 1;
      sum += numberIn(textUnder(body, "total"));
    }
    const all = !wanted.length && !at.value && !only?.value;
    for (const table of tables) {
      if (table.tFoot) table.tFoot.hidden = !all;
      const section = table.closest(".kind");
      if (!section) continue;
      const fitting = [...table.tBodies].filter((body) => !body.hidden).length;
      section.hidden = !fitting;
      section.querySelector(".count").textContent = numbers.format(fitting);
    }
    shown.hidden = all;
    shown.textContent = all
      ? ""
      : [
        describeShown(count, sum),
        at.value && gettext("library {library}", { library: at.value }),
        only?.value && only.selectedOptions[0].textContent,
        wanted.length && gettext("with “{words}”", { words: find.value.trim() }),
      ].filter(Boolean).join("; ");
  };
  let waiting = 0;
  const filterSoon = () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(filter);
  };
  find.addEventListener("input", filterSoon);
  for (const choice of [at, only]) choice?.addEventListener("change", filterSoon);
  // A browser that comes back to the page fills in what was there.
  addEventListener("pageshow", () => {
    if (find.value || at.value || only?.value) filter();
  });

  if (!unfold) return;
  const folds = tables.flatMap((table) => [...table.querySelectorAll("details")]);
  const setAll = (open) => folds.forEach((fold) => { fold.open = open; });
  unfold.addEventListener("click", () => {
    const open = !folds.every((fold) => fold.open);
    setAll(open);
    unfold.textContent = open ? gettext("Hide all members") : gettext("Show all members");
  });
  const choosePrinted = () => {
    for (const table of tables) {
      if (printed.checked) delete table.dataset.print;
      else table.dataset.print = "groups";
    }
  };
  printed.addEventListener("change", choosePrinted);
  addEventListener("pageshow", choosePrinted);

  // For browsers that can't unfold by style sheet alone.
  if (CSS.supports("selector(::details-content)")) return;
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = printed.checked ? folds.filter((fold) => !fold.open) : [];
    closed.forEach((fold) => { fold.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((fold) => { fold.open = false; }));
})();
