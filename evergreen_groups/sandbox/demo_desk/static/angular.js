// The demo desk's stand-in for the Angular client's patron page: its elements, addresses and order of events.
import { groupList, headings } from "./grouptab.js";
import { billsTab, colorMode, currency, element, everyone, fines, gettext, loggedIn, logOut, patron, pause } from "./ils.js";

const ROOT = /^\/eg2\/[^\/]+/.exec(location.pathname)[0];
const PATRONS = `${ROOT}/staff/circ/patron`;
// Milliseconds, as seen in the real client: the address first, then the name without fines, then the amounts.
const PACE = { address: 120, name: 40, amounts: 140, refresh: 90 };

const [grid, nav, tabs] = ["grid", "nav", "tabs"].map((name) => document.querySelector(`[data-${name}]`));
const template = (name) => document.getElementById(name).content.cloneNode(true).firstElementChild;
const foldsAway = !template("summary").querySelector(".summary-details"); // all of it, as before 3.14
let current = null; // whose page it is by the address, or by the row that was clicked
let summary = null; // what the summary shows
let pane = null; // the element that holds the summary
let collapsed = false;

function fields(root, values) {
  for (const [name, value] of Object.entries(values)) {
    const node = root.querySelector(`[data-field=${name}]`);
    if (node) node.firstChild.data = value; // the node stays, its text changes
  }
}

function makeSummary(whose) {
  const made = document.createElement("eg-patron-summary");
  made.append(template("summary"));
  paint(made, whose);
  return made;
}

function paint(root, shown) {
  const { fines: amounts = { owed: 0, group: 0 }, ...record } = shown;
  fields(root, { ...record, owed: currency(amounts.owed) });
  const first = root.querySelector("[data-alert=owed]");
  if (!first) return;
  first.className = amounts.owed > 0 ? first.dataset.alarm : first.dataset.calm;
  const list = first.parentElement;
  const groupRow = list.querySelector("[data-field=group]")?.parentElement;
  if (amounts.group <= amounts.owed) groupRow?.remove();
  else if (!groupRow) {
    const anchor = [...list.childNodes].find((node) => node.nodeType === Node.COMMENT_NODE);
    anchor.before(template("group-fines"));
  }
  fields(root, { group: currency(amounts.group) });
}

function showSummary() {
  if (!summary || (collapsed && foldsAway)) {
    pane?.remove();
    pane = null;
  } else if (pane) paint(pane, summary);
  else {
    pane = template("pane");
    pane.querySelector("eg-patron-summary").replaceWith(makeSummary(summary));
    grid.prepend(pane);
    if (collapsed) pane.querySelector(".summary-details").remove();
  }
  document.getElementById("banner").textContent = summary ? gettext("Patron: {name}", summary) : gettext("Manage Patrons");
}

function toggle(button) {
  collapsed = !collapsed;
  if (foldsAway) showSummary();
  else if (collapsed) pane.querySelector(".summary-details").remove();
  else pane.querySelector(".patron-summary-container").append(makeSummary(summary).querySelector(".summary-details"));
  button.setAttribute("aria-expanded", String(!collapsed));
}

function showNav(tab) {
  for (const item of nav.querySelectorAll("[data-tab]")) {
    item.classList.toggle("active", item.dataset.tab === tab);
    const whose = item.dataset.tab === "search" ? "" : `${current}/`;
    if (item.localName === "a") item.href = `${PATRONS}/${whose}${item.dataset.tab}`;
  }
  for (const item of nav.querySelectorAll("[data-link]")) item.href = `${ROOT}/${item.dataset.link}${current}`;
}

async function changePatron(id) {
  current = id;
  const record = await patron(id);
  await pause(PACE.name);
  if (!record || current !== id) return;
  summary = record;
  showSummary();
  const amounts = await fines(id, record.group);
  await pause(PACE.amounts);
  if (summary !== record) return;
  summary = { ...record, fines: amounts };
  showSummary();
}

function cardLink(person) {
  return element("a", person.card, { href: `${PATRONS}/${person.id}/checkout`, "data-router": "" });
}

function table(people) {
  const made = element("table", "");
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

function gridRow(contents, [rowName, cellName], className) {
  const row = element(rowName, "", { class: className });
  for (const content of contents) {
    const cell = element(cellName, "", { class: "eg-grid-cell" });
    cell.append(content);
    row.append(cell);
  }
  return row;
}

/** Make the tab, on each visit. */
async function groupTab(whose) {
  const made = element("div", "", { class: "tab-pane" });
  made.append(template("group-tab"));
  tabs.replaceChildren(made);
  const place = made.querySelector("eg-patron-group");
  const [head, body] = [".eg-grid-header", ".eg-grid-body"].map((part) => place.querySelector(part));
  const isTable = body.localName === "tbody";
  head.append(gridRow(headings(), isTable ? ["tr", "th"] : ["div", "div"], "eg-grid-row eg-grid-header-row"));
  await groupList({
    place, body, actions: place.querySelector(".eg-grid-toolbar"), whose, link: cardLink, showsFirst: false,
    rowOf: (contents) => gridRow(contents, isTable ? ["tr", "td"] : ["div", "div"], "eg-grid-row eg-grid-body-row"),
  });
}

async function searchTab() {
  const people = await everyone();
  const made = table(people);
  made.addEventListener("click", async (event) => {
    if (event.target.closest("a")) return;
    const id = Number(event.target.closest("tr").dataset.patron);
    const loading = changePatron(id);
    showNav("search");
    await loading;
  });
  const merge = element("button", gettext("Merge the first two"), { type: "button", class: "btn", id: "merge" });
  merge.addEventListener("click", () => {
    const dialog = element("div", "", { class: "modal", role: "dialog", "aria-label": gettext("Merge the first two") });
    dialog.append(...people.slice(0, 2).map((person) => makeSummary(person)));
    tabs.prepend(dialog);
  });
  return [merge, made];
}

async function route() {
  const [id, tab] = location.pathname.slice(PATRONS.length + 1).split("/");
  if (id === "search") {
    current = summary = null;
    showSummary();
    showNav("search");
    tabs.replaceChildren(...(await searchTab()));
    return;
  }
  const loading = Number(id) === summary?.id ? null : changePatron(Number(id));
  current = Number(id);
  showNav(tab);
  tabs.replaceChildren(element("h3", tab.replaceAll("_", " ")));
  await loading;
  if (tab === "bills") await billsTab(tabs, current, () => location.reload());
  if (tab === "group" && summary && location.pathname.endsWith(`/${id}/group`)) await groupTab(summary);
}

async function go(address) {
  await pause(PACE.address);
  history.pushState(null, "", address);
  await route();
}

nav.addEventListener("click", async (event) => {
  const tab = event.target.dataset.tab;
  if (!tab || event.ctrlKey) return;
  event.preventDefault();
  if (tab !== "refresh") {
    await go(tab === "search" ? `${PATRONS}/search` : `${PATRONS}/${current}/${tab}`);
  } else if (summary) {
    const { fines: _former, ...record } = summary;
    const amounts = await fines(record.id, record.group);
    summary = record; // no amounts for a moment
    showSummary();
    await pause(PACE.refresh);
    summary = { ...record, fines: amounts };
    showSummary();
  }
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("#summary-toggle");
  if (button && summary && !button.closest("[role=dialog]")) toggle(button);
});
grid.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-router]");
  if (!link || event.ctrlKey) return;
  event.preventDefault();
  go(link.pathname);
});
addEventListener("popstate", route);
document.getElementById("log-out").addEventListener("click", logOut);
colorMode(document.getElementById("color-mode"));
if (await loggedIn()) await route();
