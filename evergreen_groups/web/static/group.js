/* The panel's content: what a group owes, or if nobody owes anything, its overdue and lost items; how many are over the
 * limit or blocked in Evergreen; and its members.
 *
 * Also the code that panel and tab share: URLs of the client, and navigation without reloading it.
 */

let texts = null; // texts.js, passed in: after a failed load, a browser may never retry a module under the same URL

export function use(module) {
  texts = module;
}

// Translation tools find the texts by these names.
export const gettext = (text, values) => texts.gettext(text, values);
const ngettext = (one, many, count, values) => texts.ngettext(one, many, count, values);
const pgettext = (context, text) => texts.pgettext(context, text);

const MOST = 8; // more are on the group's page

/** Describe a penalty in full: name, library, date, and whether staff have set it. */
function penalty(block) {
  const values = { name: block.label || block.name, place: block.org_unit, day: block.since && texts.day(block.since) };
  const said = block.since ? gettext("{name} (at {place}, since {day})", values) : gettext("{name} (at {place})", values);
  return block.by_staff ? [said, gettext("set by staff")].join(", ") : said;
}

/** Mark a text's language and direction, for screen readers and alignment. */
export function inLanguage(made) {
  made.lang = texts.tag();
  made.dir = texts.direction();
  return made;
}

export function element(name, className, ...content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

export function button(text, act) {
  const made = element("button", "", text);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

export function address(page, id, tab) {
  return `${page.root}/staff/circ/patron/${encodeURIComponent(id)}/${tab}`;
}

/** Return the URL of a patron's group page, with the client that its links lead back to. */
export function groupPage(page, more = "") {
  const place = new URL(`patrons/${page.id}/group`, import.meta.url);
  return `${place.href}?${more}client=${encodeURIComponent(page.root.slice(1))}`;
}

export const isPlain = (event) =>
  !(event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);

/** Navigate as the client's own links do, without reloading it. The client may first ask to save changes. */
export function go(place) {
  if (!document.querySelector("[ng-version], [ng-app]")) return void location.assign(place); // no known router
  history.pushState(null, "", place);
  dispatchEvent(new PopStateEvent("popstate", { state: null }));
}

const money = (amount) => (amount === null || amount === undefined ? pgettext("a total", "unknown") : texts.money(amount));

const line = (...content) => element("div", "evergreen-groups-line", ...content);

const isOver = (person) => person.over_limit === true; // null: the limit isn't visible to the login
const blocksOf = (person) => [...(person.blocked_in_evergreen || []), ...(person.other_blocks || [])];
const hiddenIn = (answer) => answer.hidden_members || { count: 0, fines: null };

/** Return an exact total, or null with a lower bound. */
const totalOf = (answer, name) => [answer[name], answer[`${name}_at_least`]];

/** Format a count, exactly or as a lower bound. */
const howMany = ([exact, least]) => ({
  count: exact === null ? gettext("at least {total}", { total: texts.number(least) }) : texts.number(least),
});

/** Say how many items are overdue and lost, in a wide and in a narrow form; "" if none are. */
function late({ late_items: exact, late_items_at_least: least }) {
  const { overdue, lost } = least || {};
  const forms = [
    [
      overdue && ngettext("{count} item overdue", "{count} items overdue", overdue),
      lost && ngettext("{count} item lost", "{count} items lost", lost),
    ],
    [
      overdue && ngettext("{count} overdue", "{count} overdue", overdue),
      lost && ngettext("{count} lost", "{count} lost", lost),
    ],
  ].map((parts) => parts.filter(Boolean).join(", "));
  return forms.map((said) => (said && !exact ? gettext("at least {total}", { total: said }) : said));
}

const isLate = (one) => Boolean(late(one)[0]);

// Evergreen's penalties for a patron's own overdue and lost items
const FOR_ITEMS = /^PATRON_EXCEEDS_(OVERDUE|LOST|LONGOVERDUE)_COUNT$/;
const blockedForItems = (person) => blocksOf(person).every(({ name }) => FOR_ITEMS.test(name));

const isBlocked = (person) => blocksOf(person).length > 0;

/** Say who is blocked, where nobody owes and all blocks are for own items; else null. */
function namedForItems(answer, all) {
  const theirs = answer.members.filter(isBlocked);
  if (!isLate(answer) || !theirs.length || !theirs.every(blockedForItems)) return null;
  const values = { ...howMany(totalOf(answer, "blocked_count")), all: texts.number(all) };
  // Names are isolated from the text's writing direction.
  const said = (names) => explained(names.map((name) => `\u2068${name}\u2069`).join("; "), [gettext("blocked for own items")]);
  const names = theirs.map(nameOf);
  if (names.length === 1) return [said(names), said([names[0].split(", ").pop()])];
  return [
    said(names),
    ngettext("{count} of {all} blocked for own items", "{count} of {all} blocked for own items", theirs.length, values),
  ];
}

/** Say how many are blocked, and how many more are over the limit if any; "" if that isn't known. */
function counted(page, answer, all) {
  const blocked = totalOf(answer, "blocked_count");
  const over = totalOf(answer, "over_limit_count");
  const count = blocked[1];
  if (!count && over[1]) return ngettext("{count} over the limit", "{count} over the limit", over[1], howMany(over));
  if (!count) return blocked[0] === 0 ? gettext("no one blocked") : "";
  const theirs = answer.members.filter(isBlocked);
  const more = answer.members.filter((person) => isOver(person) && !theirs.includes(person)).length;
  const values = { ...howMany(blocked), all: texts.number(all), more: texts.number(more) };
  if (more) return gettext("{count} blocked, {more} more over limit", values);
  if (blocked[0] === 1 && theirs.every((person) => String(person.id) !== page.id)) return gettext("1 other blocked");
  return ngettext("{count} of {all} blocked", "{count} of {all} blocked", count, values);
}

// Show the full form of a text where it fits on one line, else its short form.
const fitting = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const [full, short] = target.children;
    [full.hidden, short.hidden] = [false, true];
    full.hidden = full.getClientRects().length > 1;
    short.hidden = !full.hidden;
  }
});

/** Fill an element with the forms of one text: the full one, and if there are two, a short one. */
function inForms(made, said) {
  made.append(...said.map((text) => element("span", "", text)));
  if (said.length < 2) return made;
  made.firstChild.hidden = true; // until it is known to fit, so that nothing moves
  fitting.observe(made);
  return made;
}

/** Make the line that leads to the group's page. */
function info(page, options, ...said) {
  const made = inForms(element(options && options.page ? "a" : "span", "evergreen-groups-info"), said);
  if (made.localName === "a") {
    made.href = groupPage(page);
    made.target = options.panel_link === "new" ? "_blank" : "_self"; // AngularJS doesn't handle links that have a target
  }
  return line(made);
}

/** Make the two lines that are always present. */
export function lines(page, answer, { label, options, unfolded, unfold }) {
  const people = answer.members.length + hiddenIn(answer).count;
  const head = element("span", "", label);
  if (people < 2) return [line(head), info(page, options, gettext("no other members"))];
  const fold = button("", unfold);
  fold.title = ngettext("{count} member", "{count} members", people);
  fold.append(element("span", "evergreen-groups-spoken", fold.title));
  fold.setAttribute("aria-expanded", String(unfolded));
  const items = late(answer).map((said) => explained(gettext("Group"), [said]));
  const total = isLate(answer)
    ? [inForms(element("span", "evergreen-groups-items"), items)]
    : [head, element("span", "evergreen-groups-sum", money(answer.group_fines))];
  const said = [gettext("Info only"), counted(page, answer, people)].filter(Boolean).join(" · ");
  return [line(fold, ...total), info(page, options, ...(namedForItems(answer, people) || [said]))];
}

/** Say that a member is over the limit, and how Evergreen treats them. */
function overLimit(person) {
  const fines = person.blocked_in_evergreen;
  if (!fines) return gettext("over the limit");
  if ((person.other_blocks || []).length) return gettext("over the limit, not blocked for fines");
  if (person.recalculation !== "may-help") return gettext("over the limit, not blocked in Evergreen");
  return gettext("over the limit, not yet blocked in Evergreen");
}

function blockedIn(person) {
  const fines = person.blocked_in_evergreen;
  if (blockedForItems(person)) return gettext("blocked in Evergreen for own items");
  if (!(fines && fines.length)) return gettext("blocked in Evergreen, not for fines");
  if (person.over_limit !== false || person.recalculation === "threshold-hidden") return gettext("blocked in Evergreen");
  return gettext("blocked in Evergreen, own fines within the limit");
}

/** Explain with Evergreen's own threshold why a recalculation would change nothing. */
function threshold(person) {
  switch (person.recalculation) {
    case "below-threshold":
    case "reaches-threshold":
      return [gettext("Evergreen blocks at {threshold}", { threshold: money(person.evergreen_threshold) })];
    case "threshold-hidden":
    case "not-known":
      return person.evergreen_threshold === null ? [gettext("Evergreen's threshold is hidden from your login")] : [];
    case "no-threshold":
      return [gettext("Evergreen has no threshold for this profile and library")];
    default:
      return [];
  }
}

/** Add reasons. The colon is the language's: French has a space before it. */
const explained = (heading, reasons) => gettext("{heading}: {finding}", { heading, finding: reasons.join("; ") });

/** Describe a member: a word for the chip, if any, and what to say about them. */
function described(person) {
  const { blocked_in_evergreen: fines, limit } = person;
  const all = blocksOf(person);
  const about = person.group_lead ? [gettext("group lead")] : [];
  if (isOver(person) && !(fines && fines.length)) {
    const own = limit ? [gettext("limit: {limit}", { limit: money(limit) })] : [];
    about.push([overLimit(person), ...own, ...threshold(person)].join("; "));
  }
  if (all.length) {
    const why = [...all.map(penalty), ...(person.over_limit === false ? threshold(person) : [])];
    about.push(explained(blockedIn(person), why));
  }
  if (all.length) return [gettext("Blocked"), about];
  if (!isOver(person)) return ["", about];
  return [pgettext("in a chip", "Over limit"), about];
}

const nameOf = (person) => person.name || person.barcode || `#${person.id}`;

/** Say what a member owes, or in a group that is late and owes nothing, which items. */
function ownPart(answer, person) {
  if (!isLate(answer)) return money(person.own_fines);
  return person.late_items || isLate(person) ? late(person)[1] : money(null);
}

/** Return the length of the surname that all share, or 0, also if two have one given name. */
function sharedPart(names) {
  const { length } = /^(.+?, |)/.exec(names[0])[0];
  const kinds = (...part) => new Set(names.map((name) => name.slice(...part))).size;
  return kinds(0, length) === 1 && kinds(length) === names.length ? length : 0;
}

function member(page, answer, person, from) {
  const name = nameOf(person);
  // A surname is cut first. The label reads as one name.
  const parts = name.slice(from).split(/(?<=, )/).map((part) => element("span", "evergreen-groups-cut", part));
  const link = element("a", "", element("bdi", "", ...parts));
  link.setAttribute("aria-label", name);
  link.href = address(page, person.id, "checkout");
  if (String(person.id) === page.id) link.setAttribute("aria-current", "true");
  link.addEventListener("click", (event) => {
    if (!isPlain(event)) return;
    event.preventDefault();
    go(link.href);
  });
  const [word, about] = described(person);
  const kind = isBlocked(person) ? "blocked" : "mark";
  const chips = word ? [element("span", `evergreen-groups-cut evergreen-groups-${kind}`, word)] : [];
  const row = line(link, ...chips, element("span", "evergreen-groups-sum", ownPart(answer, person)));
  const tip = element("div", "", element("bdi", "", name), ...about.map((text) => element("div", "", text)));
  tip.setAttribute("role", "tooltip");
  tip.id = `evergreen-groups-${person.id}`;
  link.setAttribute("aria-describedby", tip.id);
  const made = element("li", "", row, tip);
  for (const left of ["pointerleave", "focusout"]) made.addEventListener(left, () => delete made.dataset.dismissed);
  return made;
}

// Escape hides a member's details until the pointer or the focus leaves them.
document.addEventListener("keydown", ({ key }) => {
  if (key !== "Escape") return;
  for (const one of document.querySelectorAll(".evergreen-groups li:is(:hover, :focus-within)")) one.dataset.dismissed = "";
});

/** Select the members to show: those who are blocked or over the limit, then those who owe, or have late, most. */
function foremost(people) {
  const rank = (person) => 2 * isBlocked(person) + isOver(person);
  const owes = ({ own_fines: fines, late_items_at_least: least }) => Number(fines) || (least ? least.overdue + least.lost : 0);
  return [...people].sort((one, other) => rank(other) - rank(one) || owes(other) - owes(one)).slice(0, MOST);
}

/** Say how many members aren't in the list, and why. */
function rest(answer, shown) {
  const parts = [];
  const more = answer.members.length - shown;
  if (more > 0) parts.push(ngettext("{count} more on the group page", "{count} more on the group page", more));
  const { count, fines } = hiddenIn(answer);
  if (count) {
    const said = ngettext("{count} member hidden from your login", "{count} members hidden from your login", count);
    parts.push(fines === null || isLate(answer) ? said : `${said}, ${money(fines)}`);
  }
  return parts.join("; ");
}

/** Make the list of members, and the note on those who aren't in it. */
export function list(page, answer) {
  const shown = foremost(answer.members);
  const from = sharedPart(answer.members.map(nameOf));
  const made = element("ul", "evergreen-groups-members", ...shown.map((person) => member(page, answer, person, from)));
  made.setAttribute("aria-label", isLate(answer) ? gettext("Own items") : gettext("Own fines"));
  const others = rest(answer, shown.length);
  return others ? [made, element("div", "evergreen-groups-rest", others)] : [made];
}

const sheet = new CSSStyleSheet();
sheet.replaceSync(`
  .evergreen-groups [aria-expanded]::before { content: "▸"; }
  .evergreen-groups [aria-expanded=true]::before { content: "▾"; }
  .evergreen-groups [dir=rtl] [aria-expanded=false]::before { content: "◂"; }
  .evergreen-groups-items { flex: 1; font-size: .93em; }
  .evergreen-groups-info { flex: 1; align-content: center; min-height: 24px; }
  .evergreen-groups-members { list-style: none; margin: 0; padding: 0; border-top: 1px solid var(--border, #adb5bd); }
  .evergreen-groups-members > li { position: relative; }
  .evergreen-groups-members a { flex: 1; min-width: 3.5em; line-height: 24px; }
  /* A family name with less than 3em of room wraps into a line below, which isn't shown. */
  .evergreen-groups-members a > bdi { display: flex; flex-wrap: wrap-reverse; align-content: flex-end; height: 24px; overflow: hidden; }
  .evergreen-groups-members a span { white-space: pre; }
  .evergreen-groups-members a span:first-child:not(:last-child) { flex: 1 0 3em; max-width: max-content; }
  .evergreen-groups-members a[aria-current] { font-weight: bold; }
  .evergreen-groups-cut { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; min-width: 0; }
  .evergreen-groups-mark, .evergreen-groups-blocked { padding: 0 3px; border: 1px solid; border-radius: .25em; }
  .evergreen-groups-blocked { background: var(--badge-danger-bg, #f8d7da); color: var(--badge-danger-color, #58151c); }
  .evergreen-groups [role=tooltip] { display: none; position: absolute; z-index: 10; top: 50%; translate: 0 -50%;
    inset-inline-start: 100%; width: max-content; max-width: 20em; margin-inline-start: 8px; padding: 4px 8px;
    border: 1px solid; border-radius: .25em; background: var(--bs-body-bg, Canvas); }
  .evergreen-groups [role=tooltip]::before { content: ""; position: absolute; inset-block: 0; inset-inline: -9px 100%; }
  .evergreen-groups li:not([data-dismissed]):is(:hover, ul:not(:hover) > :focus-within) > [role=tooltip] { display: block; }
  @media (width >= 700px) { /* AngularJS keeps its summary on the left, whatever the language */
    .evergreen-groups.row [role=tooltip] { inset-inline: auto; left: 100%; margin: 0 0 0 8px; }
    .evergreen-groups.row [role=tooltip]::before { inset: 0 100% 0 -9px; }
  }
  @media (width < 700px) { /* no room next to the row */
    .evergreen-groups [role=tooltip] { top: 100%; translate: none; inset-inline: 0; width: auto; margin: 0; pointer-events: none; }
  }
`);
document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
