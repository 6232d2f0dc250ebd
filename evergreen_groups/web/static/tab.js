/* Shows the group's page in the staff client's own tab "Group Member Details", in place of the client's list.
 *
 * The page is in a frame of the same origin, as high as its content. The client rebuilds its tab on each visit, so the
 * frame is updated after each change. The client's list stays behind it and reappears if our page doesn't load.
 */
const CHOICE = "evergreen-groups.tab"; // key in the storage of the browser's tab
const SLOW = 4000; // ms until the client's list is shown instead
const LOW = 0.4; // of the window's height: a page that begins below this is hardly visible
const RING = 6; // px around the page, for focus rings
const IN_TAB = /\/patron\/0*(\d+)\/group\/?$/;
const IN_CLIENT = /^\/eg2?(?:\/[\w-]+)?\/staff\/circ\/patron\/(\d+)\/([a-z_]+)\/?$/;
const OUR_PAGE = /\/patrons\/(\d+)\/group$/;
const TYPING = "input, textarea, select, [contenteditable], [role=dialog] *";
const MOVES = /^(Arrow|Page|Home|End|Tab)/;

let group = null; // group.js, passed in: after a failed load, a browser may never retry a module under the same URL
let holder = null; // our element in the tab: a bar with the frame below it
let shown = null; // the client's page that it was made for
let hold = null; // scrolls the page into view, until the user scrolls

const remembered = () => attempt(() => sessionStorage.getItem(CHOICE)) === "client";

function attempt(work) {
  try {
    return work();
  } catch {
    return null; // storage is disabled, or the frame contains a foreign page
  }
}

export function use(module) {
  group = module;
}

const gettext = (text) => group.gettext(text); // the tools for translation find the texts by this name

/** Insert or remove the frame after each change of the client. */
export function sync(page, loggedOut) {
  const place = page?.grid && IN_TAB.exec(location.pathname);
  if (!place) return take();
  const isThere = holder?.dataset.patron === place[1] && holder.parentElement === page.grid.parentElement;
  if (isThere) return follows(loggedOut);
  take();
  if (loggedOut) return undefined;
  shown = { ...page, id: place[1] };
  holder = group.element("div", "evergreen-groups-tab", bar());
  holder.dataset.patron = shown.id;
  group.inLanguage(holder);
  page.grid.parentElement.prepend(holder); // the client's own elements follow and are hidden
  return remembered() ? state("client") : load();
}

/** Remove all names after a logout, from our page and from the client's list behind it. */
function follows(loggedOut) {
  reanchor();
  const { state: name } = holder.dataset;
  if (name === "ended" && !loggedOut) return load();
  if (!loggedOut || !(name === "shown" || name === "loading")) return undefined;
  frame().remove();
  return state("ended");
}

export function take() {
  holder?.remove();
  holder = shown = hold = null;
}

function bar() {
  const choose = group.button("", () => {
    const back = holder.dataset.state === "shown" || holder.dataset.state === "loading";
    attempt(() => sessionStorage.setItem(CHOICE, back ? "client" : "ours"));
    if (back) frame().remove();
    if (back) state("client");
    else load();
  });
  return group.element("div", "evergreen-groups-bar", group.element("span", ""), choose);
}

/** Set the state. loading, shown: the frame is visible; client: the client's list, by choice; lost: that list, with the
 * reason; down: only that list; ended: neither. */
function state(name) {
  holder.dataset.state = name;
  hold = null;
  const [said, choice] = holder.querySelectorAll(".evergreen-groups-bar > *");
  const ended = gettext("Your session has ended. Log in again.");
  const why = { lost: gettext("Not available right now."), ended };
  said.textContent = why[name] ? `${why[name]} ` : "";
  said.setAttribute("role", "status");
  choice.hidden = name === "ended"; // the panel's button for it brings it back
  const choices = { client: gettext("Show the group's page"), lost: gettext("Try again") };
  choice.textContent = choices[name] || gettext("Show Evergreen's own list");
}

const frame = () => holder && holder.querySelector("iframe");

function load() {
  frame()?.remove();
  const made = group.element("iframe", "");
  made.title = gettext("Group members");
  made.src = group.groupPage(shown, "in=tab&");
  made.addEventListener("load", () => made === frame() && loaded(made));
  holder.append(made);
  state("loading");
  setTimeout(() => {
    if (made !== frame() || holder.dataset.state !== "loading") return;
    made.remove(); // further content would appear in the middle of something else
    state("lost");
  }, SLOW);
}

/** Return the frame's document if it is one of our pages, and whether its status was 200. */
function look(made) {
  return attempt(() => {
    const page = made.contentDocument;
    const [entry] = made.contentWindow.performance.getEntriesByType("navigation");
    const status = entry?.responseStatus; // not all browsers provide it
    const ours = page.contentType === "text/html" && Boolean(page.querySelector('[href*="/evergreen-groups/"]'));
    return { page, well: status ? status === 200 : ours, ours: ours || status === 200 };
  });
}

function loaded(made) {
  const first = !made.dataset.known;
  const found = look(made);
  if (!found || !(first ? found.well : found.ours)) {
    made.remove();
    state(first ? "down" : "lost");
    return;
  }
  made.dataset.known = "yes";
  state("shown");
  const { page } = found;
  dress(page);
  fit(made, page);
  watch(page);
  page.addEventListener("click", follow);
  page.addEventListener("keydown", passOut);
  reveal(page, first);
  passIn(); // browsers apply autofocus at most once per window
}

/** The client's menus, which cover the window's top: on a small screen, two lines of it. */
const menus = () => document.querySelector(".fixed-top, .navbar-fixed-top");
const box = (one) => one.getBoundingClientRect();

/** Scroll the page's start into view unless its heading, field and first button are: a step may be below Angular's
 * summary, which may get its height later. Of a question higher than the window, show the end. */
function reveal(page, first) {
  if (first && scrollY) return;
  const button = page.querySelector("#found .btn, #confirm") || page.querySelector("main .btn");
  const needed = [...page.querySelectorAll("h1, [autofocus]"), button].filter(Boolean);
  hold = () => {
    if (!holder.offsetParent || document.activeElement?.matches(TYPING)) return;
    const below = Math.max(...needed.map((one) => box(one).bottom)) + box(frame()).top - innerHeight;
    const over = box(holder).top - RING - Math.max(0, menus() && box(menus()).bottom);
    const start = below > 0 || over < 0 || (first && over > innerHeight * LOW) ? over : 0;
    const by = below > start ? below + RING : start;
    if (Math.abs(by) >= 1) scrollBy({ top: by, behavior: "instant" });
  };
  reanchor();
}

function reanchor() {
  hold?.();
  underneath();
}

/** Let go once the user scrolls or changes the layout, unlike a scanner. */
function released({ key, altKey, ctrlKey }) {
  if (!key || altKey || ctrlKey || MOVES.test(key)) hold = null;
}
const watch = (target) => ["wheel", "pointerdown", "keydown"].forEach((kind) => target.addEventListener(kind, released));
watch(window);

/** Give the page the client's font, size, background and colors; desk.css uses `--paper`. */
function dress(page) {
  const client = getComputedStyle(document.body);
  const { bsTheme } = document.documentElement.dataset;
  page.documentElement.dataset.bsTheme = bsTheme || "light"; // before 3.14 there is only light
  page.documentElement.style.fontSize = client.fontSize;
  page.documentElement.style.setProperty("--paper", client.backgroundColor);
  Object.assign(page.body.style, { fontFamily: client.fontFamily, paddingInline: `${RING}px` });
}

/** Keep the frame as high as its page, and the bar and it within the window: on a small screen, Angular's own page is wider. */
function fit(made, page) {
  const measure = () => {
    const start = box(made).left + scrollX;
    holder.style.maxWidth = `${document.documentElement.clientWidth - start - 2 * RING}px`;
    const wide = page.documentElement.scrollWidth > page.documentElement.clientWidth;
    made.style.height = `${Math.ceil(box(page.documentElement).height) + (wide ? 20 : 0)}px`;
    reanchor();
  };
  measure();
  new made.contentWindow.ResizeObserver(measure).observe(page.documentElement);
  made.contentWindow.addEventListener("resize", measure);
}

/** Tell the page how much of it is below the window: its buttons for selected members stay above that. */
function underneath() {
  const made = frame();
  if (holder?.dataset.state !== "shown" || !made) return;
  const below = Math.max(0, box(made).bottom - innerHeight);
  attempt(() => made.contentDocument.documentElement.style.setProperty("--below", `${below}px`));
}
addEventListener("scroll", underneath);
addEventListener("resize", reanchor);
new ResizeObserver(reanchor).observe(document.body); // the summary above it unfolds

/** Open links to the client's patron pages in the client around the frame, without reloading it. */
function follow(event) {
  const link = event.target.closest?.("a[href]");
  if (!link || !group.isPlain(event) || link.hasAttribute("download") || link.origin !== location.origin) return;
  const client = IN_CLIENT.exec(link.pathname);
  const other = link.target === "_top" && OUR_PAGE.exec(link.pathname);
  if (!client && !(other && other[1] !== shown.id)) return;
  event.preventDefault();
  group.go(client ? group.address(shown, client[1], client[2]) : group.address(shown, other[1], "group"));
}

/** Keep the client's shortcuts working while the frame has the focus. */
function passOut(event) {
  const { key, ctrlKey, altKey, metaKey } = event;
  if (event.defaultPrevented || event.isComposing || !(ctrlKey || altKey || metaKey || /^F\d+$/.test(key))) return;
  if (!document.body.dispatchEvent(new KeyboardEvent("keydown", event))) event.preventDefault();
}

/** Focus the page unless the user is typing elsewhere. Returns the field that got the focus. */
function passIn() {
  const active = document.activeElement;
  if (active !== frame() && active?.matches(TYPING)) return null;
  const page = frame().contentDocument;
  const taken = active === frame() && page.activeElement && page.activeElement !== page.body;
  if (taken) return page.activeElement;
  const field = page.querySelector("[autofocus]");
  frame().contentWindow.focus();
  if (field) field.focus({ preventScroll: true });
  return field;
}

// If nothing has the focus, the first scanned character would get lost on the way into the frame; insert it there.
document.addEventListener("keydown", (event) => {
  const scanned = event.key && event.key.length === 1 && !(event.ctrlKey || event.altKey || event.metaKey || event.isComposing);
  if (!scanned || event.target !== document.body || holder?.dataset.state !== "shown") return;
  const field = passIn();
  if (field?.localName !== "input" || event.key === " ") return;
  event.preventDefault();
  field.setRangeText(event.key, field.selectionStart, field.selectionEnd, "end");
  field.dispatchEvent(new Event("input", { bubbles: true }));
});

// Follow the choice of a light or dark theme while the page is open.
new MutationObserver(() => {
  if (holder?.dataset.state === "shown") attempt(() => dress(frame().contentDocument));
}).observe(document.documentElement, { attributes: true, attributeFilter: ["data-bs-theme", "class"] });

const sheet = new CSSStyleSheet();
sheet.replaceSync(`
  .evergreen-groups-tab iframe { display: block; width: calc(100% + ${2 * RING}px); margin: 0 -${RING}px; height: 24em;
    border: 0; color-scheme: normal; }
  .evergreen-groups-tab[data-state=loading] iframe { visibility: hidden; }
  .evergreen-groups-tab[data-state=down] { display: none; }
  .evergreen-groups-tab:is([data-state=loading], [data-state=shown], [data-state=ended]) ~ * { display: none !important; }
  .evergreen-groups-bar { display: flex; gap: .5em; justify-content: flex-end; margin: .25em 0; font-size: .875em; }
`);
document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
