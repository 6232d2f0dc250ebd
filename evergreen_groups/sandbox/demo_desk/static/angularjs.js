// The demo desk's stand-in for the AngularJS client's patron page: its elements, addresses and order of events.
import { groupList, headings } from "./grouptab.js";
import { billsTab, colorMode, currency, element, everyone, fines, gettext, loggedIn, logOut, patron, pause } from "./ils.js";

const PATRONS = "/eg/staff/circ/patron";
// Milliseconds, as seen in the real client: the address first, blank fines, then name and card, then the amounts.
const PACE = { address: 50, name: 120, amounts: 180 };

const heading = document.querySelector(".patron-name-header h4");
const grid = document.getElementById("patron-summary-grid");
const blank = grid.cloneNode(true);
let view = document.getElementById("view");
const nav = document.querySelector(".nav");
const other = document.getElementById("other-menu");
const ngIf = [...grid.childNodes].find((node) => node.nodeType === Node.COMMENT_NODE);
const staying = grid.querySelector("[ng-show*=group_balance_owed]"); // hidden where it doesn't apply, as before 3.15.9
let current = null; // whose summary is on its way or on screen
let record = null; // whose summary is on screen
let loads = 0;
let painted = 0;

/** Texts change, nodes stay. */
function fields(root, values) {
  for (const [name, value] of Object.entries(values)) {
    const node = root.querySelector(`[data-field=${name}]`);
    if (node) node.firstChild.data = value;
  }
}

function dropGroupRow() {
  while (ngIf.nextSibling.nodeType === Node.ELEMENT_NODE && ngIf.nextSibling.hasAttribute("ng-if")) {
    ngIf.nextSibling.remove();
  }
  const end = ngIf.nextSibling.nextSibling;
  if (end?.nodeType === Node.COMMENT_NODE) end.remove();
}

function paintFines(amounts) {
  fields(grid, { owed: amounts ? currency(amounts.owed) : "" });
  grid.querySelector("[data-field=owed]").parentElement.classList.toggle("patron-summary-alert", Boolean(amounts?.owed));
  const applies = Boolean(amounts) && amounts.group > amounts.owed;
  if (staying) {
    staying.classList.toggle("ng-hide", !applies);
    staying.classList.toggle("patron-summary-alert", Boolean(amounts?.group));
    fields(staying, { group: amounts ? currency(amounts.group) : "" });
    return;
  }
  dropGroupRow();
  if (!applies) return;
  const row = document.getElementById("group-fines").content.firstElementChild.cloneNode(true);
  row.classList.add("patron-summary-alert");
  fields(row, { group: currency(amounts.group) });
  ngIf.after(row, document.createComment(" end ngIf "));
}

function paintPatron() {
  heading.title = record.id;
  heading.querySelector("[data-field=name]").firstChild.data = record.name;
  fields(grid, record);
  grid.parentElement.removeAttribute("ng-cloak");
  grid.classList.remove("ng-hide");
  heading.parentElement.classList.remove("ng-hide");
  for (const link of nav.querySelectorAll("[data-tab]")) {
    if (link.dataset.tab !== "refresh") link.href = `${PATRONS}/${link.dataset.tab === "search" ? "" : `${record.id}/`}${link.dataset.tab}`;
  }
}

async function changePatron(id) {
  const load = ++loads;
  current = id;
  await pause(PACE.address);
  paintFines(null);
  const found = await patron(id);
  await pause(PACE.name);
  if (!found) return; // the old name and card stay, with blank fines
  if (load === loads) {
    record = found;
    paintPatron();
  }
  const amounts = await fines(id, found.group);
  await pause(PACE.amounts);
  if (load < painted) return;
  painted = load; // the client's own race: these may be the amounts of the patron before
  paintFines(amounts);
}

function cardLink(person) {
  return element("a", person.card, { href: `${PATRONS}/${person.id}/checkout` });
}

function table(people) {
  const made = element("table", "", { class: "list" });
  made.createCaption().textContent = gettext("Patrons");
  const body = made.createTBody();
  for (const person of people) {
    const row = body.insertRow();
    row.dataset.patron = person.id;
    row.insertCell().append(cardLink(person));
    row.insertCell().textContent = person.name;
    row.insertCell().textContent = person.library;
  }
  return made;
}

function gridRow(contents) {
  const row = document.createElement("div");
  for (const content of contents) {
    const cell = element("div", "", { class: "eg-grid-cell" });
    cell.append(content);
    row.append(cell);
  }
  return row;
}

/** Make the content of the client's ng-view, on each visit of a tab. */
function show(...content) {
  const former = view;
  view = former.cloneNode(false);
  view.append(...content);
  former.replaceWith(view);
}

async function groupTab(whose) {
  show(document.getElementById("group-tab").content.cloneNode(true));
  const grid = view.querySelector("eg-grid");
  const heading = gridRow(headings());
  heading.className = "eg-grid-header-row";
  grid.querySelector(".eg-grid-content-body").before(heading);
  await groupList({
    place: view, body: grid.querySelector(".eg-grid-content-body"), actions: grid.querySelector(".eg-grid-action-row"),
    whose, rowOf: gridRow, link: cardLink, showsFirst: true,
  });
}

async function searchTab() {
  const people = await everyone();
  const made = table(people);
  made.addEventListener("click", (event) => {
    if (!event.target.closest("a")) changePatron(Number(event.target.closest("tr").dataset.patron));
  });
  const merge = element("button", gettext("Merge the first two"), { type: "button", class: "btn", id: "merge" });
  merge.addEventListener("click", () => mergeDialog(people.slice(0, 2)));
  return [merge, made];
}

/** Two more summaries under the same id, before the main one. */
function mergeDialog(people) {
  const dialog = element("div", "", { class: "modal", role: "dialog", "aria-label": gettext("Merge the first two") });
  for (const person of people) {
    const summary = document.createElement("eg-patron-summary");
    const wrapper = element("div", "", { class: "patron-summary-grid-wrapper" });
    const copy = blank.cloneNode(true);
    copy.classList.remove("ng-hide");
    fields(copy, person);
    wrapper.append(copy);
    summary.append(wrapper);
    dialog.append(summary);
  }
  document.body.prepend(dialog);
}

async function route() {
  const [id, tab] = location.pathname.slice(PATRONS.length + 1).split("/");
  show(element("h3", (tab || id).replaceAll("_", " ")));
  other.hidden = true;
  if (id === "search") {
    show(...(await searchTab()));
    return;
  }
  if (Number(id) !== current) await changePatron(Number(id));
  if (tab === "bills") await billsTab(view, current, () => location.reload());
  if (tab === "group" && record && location.pathname.endsWith(`/${id}/group`)) await groupTab(record);
}

// AngularJS takes over every link below the page's base.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  if (link && link.id === "other") other.hidden = !other.hidden;
  if (!link || link.target || event.ctrlKey || event.defaultPrevented) return;
  if (link.getAttribute("href") === "") {
    event.preventDefault();
    if (link.dataset.tab) refresh();
    else if (link.id === "summary-toggle") grid.closest(".col-md-3").classList.toggle("ng-hide");
  } else if (link.pathname.startsWith(`${PATRONS}/`)) {
    event.preventDefault();
    history.pushState(null, "", link.pathname);
    route();
  }
});

async function refresh() {
  if (!record) return;
  const amounts = await fines(record.id, record.group);
  paintFines(null);
  await pause(PACE.name);
  paintFines(amounts);
}

addEventListener("popstate", route);
document.getElementById("log-out").addEventListener("click", logOut);
colorMode(document.getElementById("color-mode"));
if (await loggedIn()) await route();
