(() => {
  "use strict";
  // Some browsers drop the table role when a table has another display style.
  const roles = { TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TFOOT: "rowgroup", TR: "row", TD: "cell" };
  const nameParts = (parts) => {
    for (const part of parts) {
      const role = part.tagName === "TH" ? (part.scope === "row" ? "rowheader" : "columnheader") : roles[part.tagName];
      if (role) part.setAttribute("role", role);
    }
  };

  const tables = [...document.querySelectorAll("#groups, #libraries, .findings")];
  if (!tables.length) return;
  const words = new Intl.Collator(document.documentElement.lang, { numeric: true });
  // Parse an amount into the smallest unit of its currency, ignoring separators.
  const numberIn = (text) => Number(text.replace(/\D/g, "")) * (/[-−]/.test(text) ? -1 : 1);

  // Translations by English text. English pages have none.
  const texts = JSON.parse(document.getElementById("texts")?.textContent ?? '{"plurals": {}, "texts": {}}');
  // How to write amounts: money_form() in evergreen_groups/language/numbers.py.
  const { around, point, places, separator, groups: [last, others] } = JSON.parse(document.documentElement.dataset.money);
  const digitGroups = new RegExp(`\\B(?=(\\d{${others}})*\\d{${last}}$)`, "g");
  const number = (value) => String(value).replace(digitGroups, separator);
  /** Format an amount in the smallest unit of its currency. */
  const money = (units) => {
    const [whole, ...cents] = (Math.abs(units) / 10 ** places).toFixed(places).split(".");
    const [before, after] = around[Number(units < 0)];
    return before + [number(whole), ...cents].join(point) + after;
  };
  const filled = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
  const gettext = (text, values = {}) => filled(texts.texts[text] ?? text, values);

  // Sort only row groups: the total's row has fewer cells.
  // A date has its day number in data-value. Unknown dates sort last.
  const keyOf = (body, column, kind) => {
    const cell = body.rows[0].cells[column];
    if (kind === "day") return Number(cell.dataset.value ?? Infinity);
    const text = cell.firstChild?.textContent ?? "";
    return kind === "number" ? numberIn(text) : text;
  };

  let order = ""; // the name of the column that the reader chose, after a minus sign if descending
  let remember = () => {};
  const sort = (table, column, direction) => {
    addRest();
    const heads = [...table.tHead.rows[0].cells];
    const head = heads[column];
    const kind = head.dataset.kind;
    const before = head.getAttribute("aria-sort");
    const descending = direction ?? (before ? before === "ascending" : kind === "number");
    const keyed = [...table.tBodies].map((body) => [keyOf(body, column, kind), body]);
    const compare = kind ? (a, b) => (a === b ? 0 : a < b ? -1 : 1) : words.compare;
    keyed.sort(([a], [b]) => compare(a, b) * (descending ? -1 : 1));
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    table.dataset.sorted = "";
    const bodies = keyed.map(([, body]) => body);
    if (table.tFoot) table.tFoot.before(...bodies);
    else table.append(...bodies);
    order = head.dataset.column ? `${descending ? "-" : ""}${head.dataset.column}` : "";
    remember();
  };

  const makeSortable = (table) => [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (head.classList.contains("files")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(table, column));
    head.replaceChildren(button);
  });

  // Of thousands of groups, each gets its roles, and its members if they are still text, as it comes near the screen.
  const folded = new Map();
  const completed = new WeakSet();
  const complete = (body) => {
    if (completed.has(body)) return;
    completed.add(body);
    if (folded.has(body)) body.querySelector(".members > td").innerHTML = folded.get(body);
    nameParts([body, ...body.querySelectorAll("*")]);
  };
  const groups = tables.flatMap((table) => [...table.tBodies]);
  // The rest of a long list is text in the page, which browsers without scripts show.
  const text = document.getElementById("rest");
  let rest = text ? null : []; // splitting it takes long enough to wait until the page is open
  /** Make elements of the next part of the rest, or of all. */
  const addRest = (count = Infinity) => {
    if (!rest) {
      const [bodies, foot] = text.textContent.split("<tfoot");
      rest = [...bodies.split("<tbody class").slice(1).map((part) => `<tbody class${part}`), `<tfoot${foot}`];
    }
    if (!rest.length) return;
    const [table] = tables;
    const parts = rest.splice(0, count).map((part) => part.split("<details>"));
    table.insertAdjacentHTML("beforeend", parts.map(([row]) => row).join(""));
    const added = [...table.tBodies].slice(groups.length);
    added.forEach((body, place) => {
      const [, members] = parts[place];
      if (members) folded.set(body, `<details>${members}`);
    });
    groups.push(...added);
    table.dispatchEvent(new Event("added"));
  };
  const addSoon = () => {
    addRest(100); // few, so that the page answers in between
    if (rest.length) setTimeout(addSoon);
  };
  if (text) addEventListener("load", () => setTimeout(addSoon, 100)); // what is there first has to be painted
  // A follow-up that is saved updates the counts of all groups, and *Select all shown* means all.
  for (const act of ["beforeprint", "submit", "whole"]) addEventListener(act, () => addRest(), true);

  for (const table of tables) {
    makeSortable(table);
    for (const part of [table.tHead, table.tFoot]) if (part) nameParts([part, ...part.querySelectorAll("*")]);
    nameParts([table]);
    if ("oncontentvisibilityautostatechange" in window) {
      table.addEventListener("contentvisibilityautostatechange", ({ target, skipped }) => {
        if (!skipped && target.tagName === "TBODY") complete(target);
      });
      // Browsers display a long page before this script runs. What is near the screen follows one another.
      const near = [];
      for (const body of table.tBodies) {
        if (body.rows[0].checkVisibility({ contentVisibilityAuto: true })) near.push(body);
        else if (near.length) break;
      }
      near.forEach(complete);
    } else [...table.tBodies].forEach(complete);
  }

  const tools = document.querySelector(".tools");
  if (!tools) return;
  tools.hidden = false;
  const ids = ["find", "at", "only", "age", "kind", "status", "when", "whose", "unfold", "shown"];
  const [find, at, only, age, kind, status, when, whose, unfold, shown] = ids.map((id) => document.getElementById(id));
  // The library filter compares a cell; the other filters compare a group's marks.
  const choices = [at, only, age, kind, status, when, whose].filter(Boolean);

  // Letters that don't decompose into a base letter and a mark, so that a search without them matches.
  const letters = { æ: "ae", đ: "d", ð: "d", ı: "i", ł: "l", ø: "o", œ: "oe", ß: "ss", þ: "th" };
  const plain = (text) => {
    return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase().replace(/[æđðıłøœßþ]/g, (letter) => letters[letter]);
  };
  // A row group's cell in a column, if its table has that column.
  const columns = new Map(tables.map((table) => {
    if (table.matches(".findings")) return [table, ["", "library"]];
    return [table, [...table.tHead.rows[0].cells].map((head) => head.dataset.column)];
  }));
  const textUnder = (body, column) => {
    return body.rows[0].cells[columns.get(body.closest("table")).indexOf(column)]?.textContent ?? "";
  };
  const libraryOf = (body) => textUnder(body, "library");
  const withSum = groups.some((body) => textUnder(body, "total"));
  const offerLibraries = () => {
    const chosen = at.value;
    at.length = 1; // all libraries
    const names = [...new Set(groups.map(libraryOf))].sort(words.compare);
    at.append(...names.map((name) => new Option(name, name, false, name === chosen)));
    at.hidden = at.options.length < 3;
  };
  offerLibraries();

  // Filled by the first search: names, barcodes and the group's number.
  const searchable = new Map();
  const characters = { "&lt;": "<", "&gt;": ">", "&#34;": '"', "&#39;": "'", "&amp;": "&" };
  const unescaped = (text) => text.replace(/&(?:lt|gt|#34|#39|amp);/g, (escape) => characters[escape]);
  const textOf = (body) => {
    if (!searchable.has(body)) {
      const parts = body.querySelectorAll("bdi, tr:first-child > th, .findings > tbody > tr:first-child > td:nth-child(3), tbody > tr > td:nth-child(2)");
      const found = [...(folded.get(body) ?? "").matchAll(/<bdi>([^<]*)|<\/th><td>([^<]*)/g)].map(([, name, card]) => unescaped(name ?? card));
      searchable.set(body, plain([...parts].map((part) => part.textContent).concat(found).join(" ")));
    }
    return searchable.get(body);
  };

  // `sum` is null where the combined fines of a group are unknown.
  const describeShown = (count, sum) => {
    if (!rest || rest.length) return gettext("Loading …"); // the rest may fit as well
    const values = { shown: number(count), all: number(groups.length), owed: money(sum) };
    if (!count && status?.value === "to-do") return gettext("Nothing to do here. Waiting and closed groups are under “All groups”.");
    if (!withSum || sum === null || !count) return gettext("Shown: {shown} of {all}", values);
    return gettext("Shown: {shown} of {all}; Group Fines: {owed}", values);
  };
  const filter = () => {
    const wanted = plain(find.value).split(/\s+/).filter(Boolean);
    const fits = (body) =>
      (!at.value || libraryOf(body) === at.value) &&
      [only, age].every((choice) => !choice?.value || body.dataset.is.split(" ").includes(choice.value)) &&
      (!status?.value || body.rows[1]?.dataset.status?.split(" ").includes(status.value)) &&
      [when, whose].every((choice) => !choice?.value || body.rows[1]?.dataset.is.split(" ").includes(choice.value)) &&
      (!kind?.value || body.dataset.for.split(" ").includes(kind.value)) &&
      (!wanted.length || wanted.every((word) => textOf(body).includes(word)));
    let count = 0;
    let sum = 0;
    for (const body of groups) {
      const fitting = fits(body);
      body.hidden = !fitting;
      if (!fitting) continue;
      count += 1;
      const total = textUnder(body, "total");
      sum = sum === null || !/\d/.test(total) ? null : sum + numberIn(total);
    }
    const all = !wanted.length && !choices.some((choice) => choice.value);
    for (const table of tables) {
      if (table.tFoot) table.tFoot.hidden = !all;
      const section = table.closest(".kind");
      if (!section) continue;
      const fitting = [...table.tBodies].filter((body) => !body.hidden).length;
      section.hidden = !fitting;
      const counted = section.querySelector(".count");
      counted.textContent = all ? counted.dataset.all : number(fitting);
    }
    shown.hidden = all;
    shown.textContent = all
      ? ""
      : [
        describeShown(count, sum),
        at.value,
        ...[only, age, kind, when, whose].map((choice) => choice?.value && choice.selectedOptions[0].textContent),
        find.value.trim(),
      ].filter(Boolean).join("; ");
    tables[0].dispatchEvent(new Event("filtered"));
  };

  // The filters and the order are in the address, so that they can be bookmarked. What is searched for may be a name, and
  // is kept for a reload only. The marks of kinds may be others tomorrow.
  const wordOf = (choice, option) => (choice === kind ? option.textContent : option.value);
  const usualOf = (choice) => [...choice.options].find((option) => option.defaultSelected) ?? choice.options[0];
  remember = () => {
    const kept = new URLSearchParams();
    for (const choice of choices) {
      const [option] = choice.selectedOptions;
      if (option && option !== usualOf(choice)) kept.set(choice.id, wordOf(choice, option));
    }
    if (order) kept.set("sort", order);
    const fragment = kept.size ? `#${kept}` : "";
    history.replaceState({ find: find.value }, "", `${location.pathname}${location.search}${fragment}`);
  };
  let wantedOrder = "";
  /** Sort as the address says, once all groups are there. */
  const sortAsAsked = () => {
    if (!wantedOrder || !rest || rest.length) return;
    const [, sign, name] = wantedOrder.match(/^(-?)(.*)$/);
    wantedOrder = "";
    const column = [...tables[0].tHead.rows[0].cells].findIndex((head) => head.dataset.column === name);
    if (column >= 0) sort(tables[0], column, Boolean(sign));
  };
  const recall = () => {
    const kept = new URLSearchParams(location.hash.slice(1));
    for (const choice of choices) {
      const word = kept.get(choice.id);
      const known = () => [...choice.options].find((one) => word !== null && wordOf(choice, one) === word);
      if (choice === at && word && !known() && rest?.length !== 0) at.append(new Option(word)); // perhaps of the rest
      const option = known();
      choice.value = (option ?? usualOf(choice)).value;
    }
    wantedOrder = kept.get("sort") ?? "";
    sortAsAsked();
  };
  let waiting = 0;
  const filterSoon = () => {
    addRest();
    remember();
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(filter);
  };
  find.addEventListener("input", filterSoon);
  for (const choice of choices) choice.addEventListener("change", filterSoon);
  const filterIfAsked = () => {
    if (find.value || choices.some((choice) => choice.value)) filter();
  };
  addEventListener("pageshow", filterIfAsked); // browsers restore the fields when going back to the page
  tables[0].addEventListener("added", () => {
    if (!rest.length) offerLibraries();
    filterIfAsked();
    sortAsAsked();
  });

  find.value ||= history.state?.find ?? ""; // sorting writes the state anew
  recall();
  addEventListener("hashchange", () => {
    if (!location.hash.includes("=")) return; // a place in the page
    recall();
    filter();
  });
  if (status) filter(); // from the service, the page opens with the groups to do
  else filterIfAsked();

  if (!unfold) return;
  unfold.addEventListener("click", () => {
    addRest();
    groups.forEach(complete);
    const folds = tables.flatMap((table) => [...table.querySelectorAll("details")]);
    const open = !folds.every((fold) => fold.open);
    for (const fold of folds) fold.open = open;
    unfold.textContent = open ? gettext("Fold all") : gettext("Unfold all");
  });
  // A click on a group's row unfolds it, unless it is on a link or ends a text selection.
  document.querySelector(".folded")?.addEventListener("click", ({ target }) => {
    const line = target.closest("tbody.group > tr:first-child");
    if (!line || target.closest("a") || !getSelection().isCollapsed) return;
    const fold = line.parentElement.querySelector("details");
    fold.open = !fold.open;
  });
})();
