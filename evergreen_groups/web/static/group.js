/* The panel's content: a group's total, how many are over the limit or blocked in Evergreen, and its members.
 *
 * Also the code that panel and tab share: URLs of the client, and navigation without reloading it.
 */

let texts = null; // texts.js, passed in: after a failed load, a browser may never retry a module under the same URL

export function use(module) {
  texts = module;
}

// The tools for translation find the texts by these function names.
export const gettext = (text, values) => texts.gettext(text, values);
const ngettext = (one, many, count, values) => texts.ngettext(one, many, count, values);
const pgettext = (context, text) => texts.pgettext(context, text);

const MOST = 8; // further members are only on the group's page

/** Describe a penalty in full: name, library, date, and whether staff have set it. */
function described(block) {
  const values = { name: block.name, place: block.org_unit, day: block.since && texts.day(block.since) };
  if (!block.since) {
    return block.by_staff ? gettext("{name} at {place}, set by staff", values) : gettext("{name} at {place}", values);
  }
  if (block.by_staff) return gettext("{name} at {place} since {day}, set by staff", values);
  return gettext("{name} at {place} since {day}", values);
}

/** Mark the language and direction of a text, for screen readers and alignment. */
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

const money = (amount, { currency }) =>
  amount === null || amount === undefined ? pgettext("an amount", "unknown") : texts.money(amount, currency);

/** Make a line that is truncated if it is too long, with the full text as its tooltip. */
function cut(className, text) {
  const made = element("span", `evergreen-groups-cut ${className}`, text);
  made.title = text;
  return made;
}

const links = (...content) => element("div", "evergreen-groups-line evergreen-groups-links", ...content);
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

function countedIn(answer) {
  const blocked = totalOf(answer, "blocked_count");
  const over = totalOf(answer, "over_limit_count");
  const parts = [];
  if (blocked[1]) parts.push(ngettext("{count} blocked", "{count} blocked", blocked[1], howMany(blocked)));
  if (over[1]) parts.push(ngettext("{count} over the limit", "{count} over the limit", over[1], howMany(over)));
  return parts.length ? parts.join(", ") : over[0] === 0 ? gettext("no member over the limit") : "";
}

function pageLink(page, options) {
  const link = element("a", "evergreen-groups-cut", gettext("Group members"));
  link.href = groupPage(page);
  link.target = options.panel_link === "new" ? "_blank" : "_self"; // AngularJS doesn't handle links that have a target
  return link;
}

/** Make the four lines that are always present. */
export function lines(page, answer, { label, options, unfolded, unfold }) {
  const leads = options && options.page ? [pageLink(page, options)] : [];
  const people = answer.members.length + hiddenIn(answer).count;
  const head = cut("", label);
  if (people < 2) return [line(head), line(gettext("alone in the group")), line(), links(element("span", ""), ...leads)];
  const sum = element("span", "evergreen-groups-sum", money(answer.group_fines, page));
  const fold = button(ngettext("{count} member", "{count} members", people), unfold);
  fold.setAttribute("aria-expanded", String(unfolded));
  return [line(head, sum), line(gettext("for information")), line(cut("", countedIn(answer))), links(fold, ...leads)];
}

/** Say that a member is over the limit, and how Evergreen treats them. */
function overLimit(person) {
  const fines = person.blocked_in_evergreen;
  if (!fines) return gettext("over the limit");
  if ((person.other_blocks || []).length) return gettext("over the limit, not blocked for it");
  if (person.recalculation !== "may-help") return gettext("over the limit, not blocked in Evergreen");
  return gettext("over the limit, not yet blocked in Evergreen");
}

function blockedIn(page, person) {
  const fines = person.blocked_in_evergreen;
  if (!(fines && fines.length)) return gettext("blocked in Evergreen, not for fines");
  if (person.over_limit !== false) return gettext("blocked in Evergreen");
  if (person.recalculation !== "reaches-threshold") return gettext("blocked in Evergreen, own fines within the limit");
  return gettext("blocked in Evergreen, which blocks at {threshold}", { threshold: money(person.evergreen_threshold, page) });
}

/** Explain with Evergreen's own threshold why a recalculation would change nothing. */
function threshold(page, person) {
  switch (person.recalculation) {
    case "below-threshold":
    case "reaches-threshold":
      return [gettext("Evergreen blocks at {threshold}", { threshold: money(person.evergreen_threshold, page) })];
    case "not-known":
      return person.evergreen_threshold === null ? [gettext("Evergreen's threshold isn't visible to your login")] : [];
    case "no-threshold":
      return [gettext("Evergreen has no threshold for this profile and library")];
    default:
      return [];
  }
}

/** Describe a member briefly: [text, whether it is a block of their own, the full text]. */
function said(page, person) {
  const fines = person.blocked_in_evergreen;
  const marks = [];
  if (isOver(person) && !(fines && fines.length)) {
    const limit = person.limit
      ? gettext("own fines over the limit of {limit}", { limit: money(person.limit, page) })
      : gettext("by own fines");
    marks.push([overLimit(person), false, [limit, ...threshold(page, person)].join("; ")]);
  }
  const all = blocksOf(person);
  if (!all.length) return marks;
  const full = [...all.map(described), ...(person.over_limit === false ? threshold(page, person) : [])];
  return [...marks, [blockedIn(page, person), true, full.join("; ")]];
}

function mark([text, blocked, full]) {
  const made = element("span", blocked ? "evergreen-groups-blocked" : "evergreen-groups-mark", text);
  made.title = `${text}: ${full}`;
  return made;
}

function member(page, person) {
  const link = element("a", "evergreen-groups-cut", element("bdi", "", person.name || person.barcode || `#${person.id}`));
  link.href = address(page, person.id, "checkout");
  link.title = link.textContent;
  if (String(person.id) === page.id) link.setAttribute("aria-current", "true");
  link.addEventListener("click", (event) => {
    if (!isPlain(event)) return;
    event.preventDefault();
    go(link.href);
  });
  const sum = element("span", "evergreen-groups-sum", money(person.own_fines, page));
  const made = element("li", "", line(link, sum));
  const notes = said(page, person).map((one) => mark(one));
  if (person.group_lead) notes.unshift(element("span", "evergreen-groups-lead", pgettext("a member who leads the group", "group lead")));
  if (notes.length) made.append(element("div", "evergreen-groups-marks", ...notes));
  return made;
}

/** Select the members to show: those who are blocked or over the limit, then those who owe most. */
function foremost(people) {
  const rank = (person) => 2 * Boolean(blocksOf(person).length) + isOver(person);
  const owes = (person) => Number(person.own_fines);
  return [...people].sort((one, other) => rank(other) - rank(one) || owes(other) - owes(one)).slice(0, MOST);
}

/** Say how many members aren't in the list, and why. */
function rest(page, answer, shown) {
  const parts = [];
  const more = answer.members.length - shown;
  if (more > 0) parts.push(ngettext("{count} more in Group members", "{count} more in Group members", more));
  const { count, fines } = hiddenIn(answer);
  if (count && fines === null) parts.push(ngettext("{count} not visible to you", "{count} not visible to you", count));
  else if (count) {
    const owed = money(fines, page);
    parts.push(ngettext("{count} not visible to you, {owed}", "{count} not visible to you, {owed}", count, { owed }));
  }
  return parts.join("; ");
}

/** Make the list of members, and the note on those who aren't in it. */
export function list(page, answer) {
  const shown = foremost(answer.members);
  const made = element("ul", "evergreen-groups-members", ...shown.map((person) => member(page, person)));
  made.setAttribute("aria-label", gettext("Own fines of each group member"));
  made.tabIndex = 0; // keyboard users may have to scroll it
  const others = rest(page, answer, shown.length);
  return others ? [made, cut("evergreen-groups-rest", others)] : [made];
}

const sheet = new CSSStyleSheet();
sheet.replaceSync(`
  .evergreen-groups-list { display: flex; flex-direction: column; }
  .evergreen-groups-line > [aria-expanded] { flex-shrink: 0; }
  .evergreen-groups [aria-expanded]::before { content: "▸"; display: inline-block; width: 1em; text-align: start; }
  .evergreen-groups [aria-expanded=true]::before { content: "▾"; }
  .evergreen-groups-members { flex: 1; list-style: none; margin: 0; padding: 0; overflow-y: auto; scrollbar-width: thin;
    min-height: 0; }
  .evergreen-groups-members .evergreen-groups-line { font-size: .9375em; }
  .evergreen-groups-members > li { padding: .1em 0; }
  .evergreen-groups-marks { display: flex; flex-wrap: wrap; gap: .2em .4em; font-size: .8125em; line-height: 1.3; }
  .evergreen-groups-members a[aria-current] { font-weight: bold; }
  .evergreen-groups-mark { padding: 0 .3em; border: 1px solid; border-radius: .25em; }
  .evergreen-groups-blocked { padding: 0 .3em; border-radius: .25em;
    background: var(--badge-danger-bg, #f8d7da); color: var(--badge-danger-color, #58151c); }
  .evergreen-groups-rest { display: block; flex-shrink: 0; height: 1.5em; line-height: 1.5; font-size: .8125em; white-space: nowrap; }
`);
document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
