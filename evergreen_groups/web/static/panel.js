/* Shows the patron's group in the patron summary of Evergreen's staff clients, Angular and AngularJS.
 *
 * Adds one block after "Fines Owed". The block appears together with the summary and keeps its height, so that nothing
 * below it moves; only unfolded, it is as high as the group has members. Both clients reuse their elements from patron to patron and change only texts, at times
 * that don't match changes of the URL, so the block is updated after each change. group.js makes the content of the
 * block, tab.js shows the group's page in the client's own tab.
 */
(() => {
  "use strict";
  const script = document.currentScript;
  if (!script || window.evergreenGroupsPanel) return; // already loaded
  window.evergreenGroupsPanel = true;

  const at = (place) => new URL(place, script.src).href;
  const TIMEOUT = 15000; // ms for one response
  const RETRIES = [3000, 10000, 30000, 60000]; // ms between attempts; the last one repeats
  const LONGEST = 300000; // ms; upper bound for the service's Retry-After
  const UNKNOWN = 10000; // ms after which a page without a place for the panel is reported
  const STALE = 60000; // ms; older figures are read again when the user returns to them
  const REREAD = 800; // ms to wait after the client's figures change: it blanks them while it loads
  const SLOW = 2000; // ms to wait before showing the client's own row instead
  const IN_ADDRESS = /^(.*)\/staff\/circ\/patron\/(?:0*(\d+)(?:[/;]|$))?/;
  const IN_LINK = /\/by_patron\/(\d+)/;
  const UNFOLDED = "evergreen-groups.members"; // key in the browser's storage
  let texts = null; // texts.js once loaded; until then English
  const gettext = (text) => (texts ? texts.gettext(text) : text);
  const SAID = {
    loading: () => "",
    down: () => gettext("Not available right now."),
    ended: () => gettext("Your session has ended. Log in again."),
    refused: () => gettext("Not available to your login."),
    gone: () => gettext("Deleted, or not visible to your login."),
  };

  // Where the clients of Evergreen 3.11 to 3.17 have the elements that the panel looks for; docs/releases.md lists
  // the releases and sources. `page`: identifies the client; `id`: the patron's number, or a link with it. The rest is
  // within `summary`; `group` is the client's own Group Fines next to `fines`. Nothing depends on the language.
  const ANGULARJS = ":not(eg-patron-summary) > .patron-summary-grid-wrapper:not([ng-cloak]) > #patron-summary-grid";
  const CLIENTS = [
    { // Angular, a definition list since 3.14
      name: "angular", list: true, page: "#patron-summary", summary: "#patron-summary",
      id: '#patron-nav a[href*="/by_patron/"]', grid: "eg-patron-group",
      fines: ".account-status > dl > div:first-child", group: ".PATRON_HAS_BILLS:not(:first-child)",
      card: ".account-id > dl > div:first-child",
    },
    { // Angular up to 3.13: rows, absent while the summary is collapsed
      name: "angular-rows", page: ".sticky-top-with-nav > .nav-tabs[role=tablist]",
      summary: ".sticky-top-with-nav > eg-patron-summary > .patron-summary-container",
      id: '.sticky-top-with-nav > .nav-tabs a[href*="/by_patron/"]', grid: "eg-patron-group",
      fines: ":scope > hr:first-of-type + .row", group: "hr:first-of-type + .row + .alert-danger",
      card: ":scope > hr:nth-of-type(2) + .row",
    },
    { // AngularJS. Its merge dialog has two more grids with the same id, before the main one
      name: "angularjs", striped: true, sure: true, page: ANGULARJS, summary: ANGULARJS,
      id: ".patron-name-header h4[title]", grid: '[ng-view] > eg-grid[persist-key="circ.patron.group_members"]',
      fines: ':scope > .row[ng-class*="fines.balance_owed"]',
      group: '.row:is([ng-show*="group_balance_owed"], [ng-if*="group_balance_owed"])', // ng-if since 3.15.9, 3.16.3
      card: ":scope > .patron-summary-divider:not([ng-class])",
    },
  ];

  const sheet = new CSSStyleSheet(); // allowed by every content security policy
  sheet.replaceSync(`
    .evergreen-groups { grid-column: 1 / -1; margin: 0 0 .15rem; }
    #patron-summary-grid > .evergreen-groups.row { margin: 0 -15px; padding: 3px 15px; }
    .evergreen-groups > dd { width: 0; min-width: 100%; margin: 0; }
    .evergreen-groups-box { padding: 1px 4px; border: 1px solid var(--border, #adb5bd); border-radius: .25rem;
      background: var(--bs-body-bg, Canvas); color: var(--bs-body-color, CanvasText); text-align: start;
      font-size: max(13px, .8125em); font-weight: normal; line-height: 1.3; }
    .evergreen-groups-line { display: flex; gap: 5px; align-items: center; min-height: 24px; }
    .evergreen-groups-box > .evergreen-groups-line:first-child { font-size: 1.077em; }
    .evergreen-groups-line > :last-child:not(:first-child) { margin-inline-start: auto; }
    .evergreen-groups-sum { font-variant-numeric: lining-nums tabular-nums; white-space: nowrap; }
    .evergreen-groups a, .evergreen-groups-tab button { text-decoration: underline; text-underline-offset: .15em;
      outline-offset: -1px; }
    .evergreen-groups button, .evergreen-groups-tab button { background: none; border: 0; padding: 0; color: inherit;
      font: inherit; cursor: pointer; }
    .evergreen-groups button { flex-shrink: 0; min-width: 24px; height: 24px; }
    .evergreen-groups button:not([aria-expanded]) { padding: 0 .5em; border: 1px solid; border-radius: .25em; }
    .evergreen-groups-spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
      white-space: nowrap; }
    .evergreen-groups-even,
    ${CLIENTS.map(({ group }) => `[data-evergreen-groups=hidden] > ${group}`).join()} { display: none !important; }
  `);
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];

  const words = (node) => (node ? node.textContent.trim() : "");

  const idOf = (node) => ((node && (/^(\d+)$/.exec(node.title) || IN_LINK.exec(node.href))) || [])[1];

  /** Return what is on screen: `place` is the row to insert after (or null), `ready` whether the figures are `id`'s. */
  function currentPage() {
    const address = IN_ADDRESS.exec(location.pathname);
    const client = address && CLIENTS.find(({ page }) => document.querySelector(page));
    if (!client) return null;
    const shown = idOf(document.querySelector(client.id));
    const id = address[2] || shown;
    if (!id) return null;
    const summary = document.querySelector(client.summary);
    const find = (selector) => summary && summary.querySelector(selector);
    const place = find(client.fines);
    const own = place && place.parentElement.querySelector(`:scope > ${client.group}`);
    const [owed, card] = [place, find(client.card)].map((row) => words(row && row.children[1]));
    return {
      client, root: address[1], id, place, own, owed, card,
      ready: !client.sure || (Boolean(owed) && id === shown), // the URL changes before the summary
      grid: document.querySelector(client.grid),
    };
  }

  let options = null; // [desk] of the configuration; null until the service has answered
  let group = null; // the modules once loaded
  let tab = null;
  let tries = 0;
  let configuring = false;

  /** Load the options and the modules from the service. */
  async function configure() {
    if (options || configuring) return;
    configuring = true;
    const again = tries++ ? `?${tries}` : ""; // some browsers never retry a module under the same URL after a failure
    try {
      const client = encodeURIComponent((IN_ADDRESS.exec(location.pathname) || ["", ""])[1].slice(1));
      const settings = fetch(at(`desk.json?client=${client}`), { signal: AbortSignal.timeout(TIMEOUT) });
      const modules = [texts || import(at(`texts.js${again}`)), group || import(at(`group.js${again}`))];
      const [spoken, loaded, response] = await Promise.all([...modules, settings]);
      if (!response.ok) throw new Error(response.status);
      const answer = await response.json();
      spoken.use(answer.language);
      loaded.use(spoken);
      [texts, group] = [spoken, loaded];
      if (answer.page && answer.tab) {
        tab = await import(at(`tab.js${again}`));
        tab.use(group);
      }
      options = answer;
    } catch {
      // the service is down; try again after its next answer
    }
    configuring = false;
    sync();
  }

  let asked = null; // the current patron: id, answer or error, and the running request
  let wasDown = false;

  function forget() {
    if (!asked) return;
    clearTimeout(asked.timer);
    clearTimeout(asked.check);
    if (asked.control) asked.control.abort();
    asked = null;
  }

  function begin(id) {
    forget();
    asked = { id, answer: null, problem: null, failures: 0, since: 0, began: Date.now(), path: location.pathname };
    ask(asked);
    configure();
    setTimeout(later, SLOW);
  }

  async function ask(patron) {
    clearTimeout(patron.timer);
    if (patron.control) patron.control.abort();
    const control = (patron.control = new AbortController());
    const limit = setTimeout(() => control.abort(), TIMEOUT);
    let answer = null;
    let problem = "down";
    let wait = 0;
    try {
      const how = { headers: { Accept: "application/json" }, cache: "no-store", signal: control.signal };
      const response = await fetch(at(`api/v1/patrons/${patron.id}/summary`), how);
      wait = 1000 * Number(response.headers.get("Retry-After")) || 0;
      if (response.ok) answer = checked(await response.json(), patron.id);
      else problem = { 401: "ended", 403: "refused", 404: "gone" }[response.status] || "down";
    } catch {
      // no answer, or an unreadable one
    }
    clearTimeout(limit);
    if (patron !== asked || control !== patron.control) return; // the user has moved on, or a newer request is running
    Object.assign(patron, { answer, problem: answer ? null : problem, control: null, since: Date.now() });
    if (answer) patron.loggedOut = false;
    wasDown = patron.problem === "down";
    if (wasDown) again(patron, wait);
    else patron.failures = 0;
    if (answer) configure();
    sync();
  }

  function checked(answer, id) {
    const known = answer && (answer.version === 1 || answer.version === 2);
    return known && String(answer.patron) === id && Array.isArray(answer.members) ? answer : null;
  }

  function again(patron, wait) {
    const own = RETRIES[Math.min(patron.failures++, RETRIES.length - 1)];
    const pause = Math.max(own, Math.min(wait, LONGEST));
    patron.timer = setTimeout(() => (document.hidden ? (patron.since = 0) : ask(patron)), pause);
  }

  // Read again only after an action of the user: a timer would keep an idle session alive. The client's own figures and
  // its list of the group change whenever it reloads them (after a payment or move); use that only as a signal.
  function reconsider(page) {
    const old = Date.now() - asked.since > STALE || /\/group$/.test(asked.path);
    if (asked.path !== location.pathname) {
      asked.path = location.pathname;
      if (old && !asked.control) ask(asked);
    }
    const figures = page.owed + words(page.own && page.own.children[1]);
    const listed = page.grid ? listedIn(page.grid) : "";
    if (!page.ready || asked.control || (asked.figures === figures && asked.listed === listed)) return;
    asked.changed = asked.changed || asked.figures !== figures;
    Object.assign(asked, { figures, listed });
    clearTimeout(asked.check);
    asked.check = setTimeout(lookAgain, REREAD, asked, page.owed);
  }

  /** Return who is listed in the client's own group tab: its rows without the amounts, which arrive one by one. */
  function listedIn(grid) {
    const rows = [...grid.querySelectorAll(".eg-grid-content-body .eg-grid-row, .eg-grid-body-row")];
    return rows.map((row) => words(row).replace(/[^\p{L}]/gu, "")).join("\n");
  }

  function lookAgain(patron, owed) {
    const digits = (text) => String(text).replace(/\D/g, "");
    const differs = patron.answer && digits(patron.answer.own_fines) !== digits(owed);
    const { listed, list, answer } = patron;
    const before = list ? list === listed : !answer || answer.members.length === listed.split("\n").length;
    if (differs || (listed && !before) || (patron.changed && patron.checked)) ask(patron);
    Object.assign(patron, { checked: true, changed: false, list: patron.listed || patron.list });
  }

  /** React to a change made on the group's page in any tab of the browser. */
  function heard({ data }) {
    if (!asked || !data || data.kind !== "changed") return;
    const { answer } = asked;
    const mine = [asked.id, ...(answer ? answer.members.map((person) => String(person.id)) : [])];
    const patrons = (data.patrons || []).map(String);
    const groups = (data.groups || []).map(String);
    if (patrons.some((id) => mine.includes(id)) || (answer && groups.includes(String(answer.group)))) ask(asked);
  }

  /** Hide everything after a logout in any tab. */
  function loggedOut({ data }) {
    if (!data || data.action !== "logout" || (data.domain && data.domain !== "eg.auth")) return;
    if (!asked) return;
    const { id } = asked;
    forget();
    asked = { id, answer: null, problem: "ended", failures: 0, since: Date.now(), began: 0, path: location.pathname };
    asked.loggedOut = true; // a session that has expired is reported on the group's page, which stays
    sync();
  }

  let block = null; // our only element in the summary
  let space = 0; // px that the last list of members took
  let named = ""; // the client's own label for the group's fines, once its row has been seen
  const label = () => named || gettext("Group Fines");

  function element(name, className, ...content) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...content);
    return made;
  }

  function button(text, act) {
    const made = element("button", "", text);
    made.type = "button";
    made.addEventListener("click", act);
    return made;
  }

  function remembered() {
    try {
      return localStorage.getItem(UNFOLDED) === "true";
    } catch {
      return false; // the browser's storage is disabled
    }
  }

  function unfold() {
    try {
      localStorage.setItem(UNFOLDED, String(!remembered()));
    } catch {
      return;
    }
    sync();
  }

  /** Return the lines for a state without figures; `group.js` makes the others. */
  function lines(state) {
    const head = element("div", "evergreen-groups-line", state === "loading" ? label() : gettext("Group members"));
    const said = element("div", "evergreen-groups-line", SAID[state]());
    if (state !== "loading") said.setAttribute("role", "status");
    const retry = () => (ask(asked), sync());
    if (/down|ended/.test(state)) head.append(button(asked.control ? gettext("Trying…") : gettext("Try again"), retry));
    return [head, said];
  }

  /** Create the outer element, which stays; only its content changes. */
  function outside(page) {
    const box = element("div", "evergreen-groups-box");
    box.setAttribute("role", "group");
    const { name, list, striped } = page.client;
    const made = element("div", "evergreen-groups" + (striped ? " row" : ""));
    if (list) made.append(element("dt", "evergreen-groups-spoken"), element("dd", "", box));
    else made.append(box);
    made.setAttribute("ng-non-bindable", "");
    made.dataset.client = name;
    return made;
  }

  function take() {
    if (!block) return;
    stripes(false);
    if (block.parentElement) delete block.parentElement.dataset.evergreenGroups;
    block.remove();
    block = null;
  }

  /** Update the content. Show figures only if the summary on screen certainly belongs to the same patron. */
  function stateOf(page) {
    const { answer, problem } = asked;
    if (problem) return problem;
    return answer && group && page.ready && (answer.barcode || "").trim() === page.card ? "ready" : "loading";
  }

  function put(page) {
    const state = stateOf(page);
    const unfolded = remembered();
    const waiting = state === "loading" && !wasDown && Date.now() - asked.began < SLOW;
    const stock = state === "ready" || waiting ? "hidden" : "shown";
    const told = state === "ready" ? [asked.answer, options] : null;
    const trying = state !== "ready" && Boolean(asked.control);
    const key = JSON.stringify([page.root, page.id, label(), Boolean(texts), state, stock, Boolean(page.own), unfolded, told, trying]);
    if (block && block.dataset.client !== page.client.name) take();
    block = block || outside(page);
    putBehind(page, stock);
    if (block.key === key) return;
    block.key = key;
    Object.assign(block.dataset, { state, patron: page.id });
    block.lang = texts ? texts.tag() : "en"; // which may differ from the client's language
    block.dir = texts ? texts.direction() : "ltr";
    for (const term of block.querySelectorAll("dt")) term.textContent = gettext("Group members");
    fill(block.querySelector("[role=group]"), page, state, unfolded);
  }

  /** Insert the block after "Fines Owed", and after the client's own "Group Fines" if present. */
  function putBehind(page, stock) {
    const isOurs = (node) => /^evergreen-groups(?:-even)?\b/.test(node.className);
    const { place, own, client } = page;
    let next = place.nextElementSibling;
    while (next && (next === own || isOurs(next))) next = next.nextElementSibling;
    const list = place.parentElement;
    const hidden = own && (stock === "hidden" || own.classList.contains("ng-hide"));
    if (block.parentElement !== list || block.nextElementSibling !== next) {
      stripes(false);
      list.insertBefore(block, next); // keep the comment nodes of the clients' conditions before it
    }
    list.dataset.evergreenGroups = stock;
    if (client.striped) stripes(hidden);
  }

  function fill(box, page, state, unfolded) {
    const active = document.activeElement;
    const held = box.contains(active) ? { name: active.localName, href: active.getAttribute("href") } : null;
    const lost = held || (active === document.body ? block.lost : null); // the element that had the focus is gone
    box.setAttribute("aria-label", label());
    box.setAttribute("aria-busy", String(state === "loading"));
    const ready = state === "ready" && group.lines(page, asked.answer, { label: label(), options, unfolded, unfold });
    box.replaceChildren(...(ready || lines(state)));
    if (ready && unfolded) {
      const list = element("div", "evergreen-groups-list", ...group.list(page, asked.answer));
      box.append(list);
      space = list.offsetHeight;
    } else if (unfolded && state === "loading") {
      box.append(element("div", ""));
      box.lastChild.style.height = `${space}px`; // nothing moves until the next patron's members are known
    }
    const all = lost ? [...box.querySelectorAll("a, button")] : [];
    const next = all.find((one) => one.localName === lost.name && one.getAttribute("href") === lost.href) || all[0];
    block.lost = next ? null : lost;
    if (next) next.focus();
  }

  /** Keep the stripes regular if a row of the client is hidden. */
  function stripes(even) {
    const before = block.previousElementSibling;
    const there = before && before.className === "evergreen-groups-even";
    if (even && !there) block.before(element("div", "evergreen-groups-even"));
    else if (!even && there) before.remove();
  }

  function sync() {
    try {
      const page = currentPage();
      const [, , addressed] = IN_ADDRESS.exec(location.pathname) || [];
      note(Boolean(addressed) && !(page && page.place));
      if (page && (!asked || asked.id !== page.id)) begin(page.id);
      if (tab) tab.sync(page, page && asked.loggedOut);
      if (!page) {
        take();
        forget();
        return;
      }
      named = words(page.own && page.own.children[0]) || named;
      reconsider(page);
      if (page.place) put(page);
      else take();
    } catch (error) {
      take();
      console.warn("evergreen-groups: the panel can't be shown:", error.name);
    } finally {
      observer.takeRecords();
    }
  }

  let lacking = 0; // timer that fires if a patron's page has had no place for the panel for too long
  let noted = false;

  /** Log once, without patron data, that there is no place for the panel. */
  function note(lacks) {
    if (noted || lacks === Boolean(lacking)) return;
    clearTimeout(lacking);
    lacking = lacks && setTimeout(say, UNKNOWN);
  }

  function say() {
    noted = true;
    const why = "the patron summary is collapsed, or not like in Evergreen 3.11 to 3.17";
    console.info(`evergreen-groups: no place for the panel on this page: ${why}`);
  }

  let queued = false;
  function later() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => {
      queued = false;
      sync();
    });
  }

  // Give a new summary its block before it is painted; everything else can wait until the next frame.
  const observer = new MutationObserver(() => (block && block.isConnected ? later() : sync()));
  observer.observe(document.body, {
    childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ["title", "class", "href"],
  });
  addEventListener("popstate", later);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && asked && !asked.control && Date.now() - asked.since > STALE) ask(asked);
  });
  new BroadcastChannel("evergreen-groups").addEventListener("message", heard);
  new BroadcastChannel("eg.auth").addEventListener("message", loggedOut);
  // The AngularJS client's link doesn't notify other tabs, but it deletes the session's cookie.
  const hasCookie = () => /(?:^|; )eg\.auth\.token=/.test(document.cookie);
  const look = () => hasCookie() || loggedOut({ data: { action: "logout" } });
  if (hasCookie()) document.addEventListener("visibilitychange", look); // a server may hide the cookie from scripts
  if (hasCookie() && window.cookieStore) cookieStore.addEventListener("change", look);
  sync();
})();
