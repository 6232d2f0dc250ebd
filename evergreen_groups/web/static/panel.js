/* Group fines in the patron summary of Evergreen's staff clients, the Angular and the AngularJS one.
 *
 * Two rows after "Fines Owed". Both clients keep their nodes from patron to patron and change only texts, at moments
 * that don't agree with the address. So everything is decided anew after each change: whose summary it is, whether the
 * answer is that patron's, and whether the rows stand as they should.
 */
(() => {
  "use strict";
  const script = document.currentScript;
  if (!script || window.evergreenGroupsPanel) return; // loaded twice
  window.evergreenGroupsPanel = true;

  const PATRONS = new URL("api/v1/patrons/", script.src).href;
  const TIMEOUT = 15000; // ms for one answer
  const RETRIES = [3000, 10000, 30000, 60000]; // ms; the last one again and again
  const LONGEST = 300000; // ms; whatever the service says
  const STALE = 60000; // ms; older figures are read again when the user comes back to them
  const REREAD = 800; // ms without a change of the client's figures: it blanks them while it loads
  const IN_ADDRESS = /^(.*)\/staff\/circ\/patron\/(?:0*(\d+)(?:[/;]|$))?/;
  const IN_LINK = /\/by_patron\/(\d+)/;
  const TEXTS = {
    down: "Not available just now.",
    ended: "Your session has ended. Log in again.",
    refused: "Not available to your login.",
    gone: "Deleted, or not visible to your login.",
  };

  const sheet = new CSSStyleSheet(); // no policy is against this
  sheet.replaceSync(`
    .evergreen-groups-wide { grid-column: 1 / -1; width: 0; min-width: 100%; box-sizing: border-box; margin: 0;
      text-align: start; }
    .evergreen-groups-note { font-size: .875em; font-weight: normal; }
    .evergreen-groups-members { list-style: none; margin: -4px -5px 0; padding: 4px 5px 0; max-height: 24em;
      overflow-y: auto; scrollbar-width: thin; }
    .evergreen-groups-members > li { display: flex; gap: .5em; position: relative; margin-bottom: .2em; }
    .evergreen-groups-who { flex: 1; min-width: 0; overflow-wrap: anywhere; }
    .evergreen-groups-who > span, .evergreen-groups-sum { white-space: nowrap; font-variant-numeric: tabular-nums; }
    .evergreen-groups a { text-decoration: underline; outline-offset: 1px; }
    .evergreen-groups a[aria-current] { font-weight: bold; }
    .evergreen-groups button { background: none; border: 0; padding: 0; color: inherit; font: inherit;
      text-decoration: underline; cursor: pointer; }
    .evergreen-groups-spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
      white-space: nowrap; }
    .evergreen-groups-even,
    .evergreen-groups[data-state=ready] ~ .PATRON_HAS_BILLS:not(.evergreen-groups),
    .evergreen-groups[data-state=ready] ~ .row[ng-if*="group_balance_owed"] { display: none !important; }
  `);
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];

  const words = (node) => (node ? node.textContent.trim() : "");

  /** The Angular client: `id` is whose page it is, `fines` the row to stand after (null: nothing to stand after). */
  function angularPage(root, addressed) {
    const summary = document.getElementById("patron-summary");
    if (!summary) return null;
    const link = document.querySelector('#patron-nav a[href*="/by_patron/"]');
    const linked = link && IN_LINK.exec(link.href);
    const fines = summary.querySelector(".account-status > dl > div:first-child");
    return {
      client: "angular", root, id: addressed || (linked && linked[1]), fines,
      owed: words(fines && fines.querySelector("dd")),
      card: words(summary.querySelector(".account-id > dl > div:first-child > dd")),
      stock: summary.querySelector("dl > .PATRON_HAS_BILLS:not(:first-child, .evergreen-groups) > dt"),
      groupTab: "#patron-nav",
    };
  }

  /** The AngularJS client: its merge dialog holds two more grids of the same id, in front of the main one. */
  function angularJsPage(root, addressed) {
    const main = ":not(eg-patron-summary) > .patron-summary-grid-wrapper > #patron-summary-grid";
    const grid = document.querySelector(main);
    if (!grid) return null;
    const heading = document.querySelector(".patron-name-header h4[title]");
    const titled = heading && /^\d+$/.test(heading.title) ? heading.title : null;
    const row = grid.querySelector(':scope > .row[ng-class*="fines.balance_owed"]');
    const owed = words(row && row.children[1]);
    const card = grid.querySelector(":scope > .patron-summary-divider:not([ng-class])");
    const id = addressed || titled;
    const loaded = row && owed && id === titled && !grid.closest(".ng-hide");
    return {
      client: "angularjs", root, id, fines: loaded ? row : null, owed, card: words(card && card.children[1]),
      stock: grid.querySelector(':scope > .row[ng-if*="group_balance_owed"] > :first-child'),
      groupTab: "#patron-fixed-tabs",
    };
  }

  function currentPage() {
    const place = IN_ADDRESS.exec(location.pathname);
    if (!place) return null;
    const page = angularPage(place[1], place[2]) || angularJsPage(place[1], place[2]);
    return page && page.id ? page : null;
  }

  let asked = null; // the patron asked about: id, answer or problem, and what is under way

  function forget() {
    if (!asked) return;
    clearTimeout(asked.timer);
    clearTimeout(asked.check);
    if (asked.control) asked.control.abort();
    asked = null;
  }

  function begin(id) {
    forget();
    asked = { id, answer: null, problem: null, failures: 0, since: 0, path: location.pathname };
    ask(asked);
  }

  async function ask(patron) {
    if (patron.control) return;
    clearTimeout(patron.timer);
    patron.control = new AbortController();
    const limit = setTimeout(() => patron.control.abort(), TIMEOUT);
    let answer = null;
    let problem = "down";
    let wait = 0;
    try {
      const options = { headers: { Accept: "application/json" }, cache: "no-store", signal: patron.control.signal };
      const response = await fetch(PATRONS + patron.id + "/summary", options);
      wait = 1000 * Number(response.headers.get("Retry-After")) || 0;
      if (response.ok) answer = checked(await response.json(), patron.id);
      else problem = { 401: "ended", 403: "refused", 404: "gone" }[response.status] || "down";
    } catch {
      // no answer, or none that can be read
    }
    clearTimeout(limit);
    if (patron !== asked) return; // the page has gone on
    Object.assign(patron, { answer, problem: answer ? null : problem, control: null, since: Date.now() });
    if (!answer && problem === "down") again(patron, wait);
    else patron.failures = 0;
    sync();
  }

  function checked(answer, id) {
    const ours = answer && answer.version === 1 && String(answer.patron) === id && Array.isArray(answer.members);
    return ours ? answer : null;
  }

  function again(patron, wait) {
    const own = RETRIES[Math.min(patron.failures++, RETRIES.length - 1)];
    const pause = Math.max(own, Math.min(wait, LONGEST));
    patron.timer = setTimeout(() => (document.hidden ? (patron.since = 0) : ask(patron)), pause);
  }

  // Only what the user does leads to another look: a clock would keep an idle session alive. The client's own figures
  // change when it loads them anew (a payment, a move), and say nothing else.
  function reconsider(page) {
    const old = Date.now() - asked.since > STALE || /\/group$/.test(asked.path);
    if (asked.path !== location.pathname) {
      asked.path = location.pathname;
      if (old) ask(asked);
    }
    const figures = page.owed + words(page.stock && page.stock.nextElementSibling);
    if (!page.fines || asked.control || asked.figures === figures) return;
    asked.figures = figures;
    clearTimeout(asked.check);
    asked.check = setTimeout((patron) => {
      const digits = (text) => String(text).replace(/\D/g, "");
      if (patron.checked || (patron.answer && digits(patron.answer.own_fines) !== digits(page.owed))) ask(patron);
      patron.checked = true;
    }, REREAD, asked);
  }

  let shown = null; // { rows, key }
  let label = "Group Fines"; // as the client calls them in its language, once its own row has been seen

  function element(name, className, ...content) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...content);
    return made;
  }

  function money(amount, page) {
    if (amount === null || amount === undefined) return "unknown";
    const [language] = /[a-z]{2,3}-[a-z]{2}$/i.exec(page.root) || ["en-US"];
    const sign = page.owed.replace(/[\d\s.,'’()\u2212\p{Cf}-]/gu, "");
    const options = { style: "currency", currency: "USD", numberingSystem: "latn" }; // as the clients write it
    const parts = new Intl.NumberFormat(language, options).formatToParts(Number(amount));
    return parts.map((part) => (part.type === "currency" && sign ? sign : part.value)).join("");
  }

  const spoken = (text) => element("span", "evergreen-groups-spoken", text);

  function address(page, id, tab) {
    return `${page.root}/staff/circ/patron/${encodeURIComponent(id)}/${tab}`;
  }

  function line(who, sum) {
    return element("li", "", who, element("span", "evergreen-groups-sum", sum));
  }

  function member(page, person) {
    const name = element("bdi", "", person.name || person.barcode || `#${person.id}`);
    const link = element("a", "", name);
    link.href = address(page, person.id, "checkout"); // loads the page: the client asks about unsaved changes
    if (String(person.id) === page.id) link.setAttribute("aria-current", "true");
    const who = element("span", "evergreen-groups-who", link);
    if (person.group_lead) who.append(" ", element("span", "evergreen-groups-note", "(group lead)"));
    if (person.blocked) {
      who.append(" ", element("span", "badge badge-danger", "Over the limit", spoken(" by own fines")));
      if (person.limit) who.lastChild.title = `Own fines over the limit of ${money(person.limit, page)}`;
    }
    return line(who, money(person.own_fines, page));
  }

  function members(page, answer) {
    const list = element("ul", "evergreen-groups-members");
    list.setAttribute("aria-label", "Own fines of each group member");
    const owing = [...answer.members].sort((one, other) => Number(other.own_fines) - Number(one.own_fines));
    list.append(...owing.map((person) => member(page, person)));
    const hidden = answer.hidden_members;
    if (hidden && hidden.count) {
      const who = hidden.count === 1 ? "1 more, not visible to you" : `${hidden.count} more, not visible to you`;
      list.append(line(element("span", "evergreen-groups-who", who), money(hidden.fines, page)));
    }
    return list;
  }

  function groupLink(page) {
    const own = () => document.querySelector(`${page.groupTab} a[href$="/${page.id}/group"]`);
    const link = element("a", "", words(own()) || "Group Member Details");
    link.href = address(page, page.id, "group");
    link.addEventListener("click", (event) => {
      const tab = page.client === "angular" && own();
      if (!tab || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      tab.click(); // the client changes its tab without loading itself anew
    });
    return link;
  }

  function retry(patron) {
    const button = element("button", "", patron.control ? "Trying…" : "Try again");
    button.type = "button";
    button.addEventListener("click", () => {
      ask(patron);
      sync();
    });
    return button;
  }

  /** One row as the client makes them: a label, a value, and something that takes the whole width. */
  function row(page, state, alarming, name, value, wide) {
    const angular = page.client === "angular";
    const made = element("div", "evergreen-groups" + (angular ? "" : " row"));
    if (alarming) made.className += angular ? " alert PATRON_HAS_BILLS" : " patron-summary-alert";
    made.dataset.state = state;
    made.setAttribute("ng-non-bindable", "");
    if (!/^en\b/.test(document.documentElement.lang || "en")) made.lang = "en";
    const [first, second] = angular ? ["dt", "dd"] : ["div", "div"];
    const parts = [element(first, angular ? "" : "col-md-5", name)];
    if (value) parts.push(element(second, angular ? "numeric" : "col-md-7", value));
    if (angular) {
      // Angular's styles are for elements that carry its generated attribute: take the neighbour's.
      const scope = page.fines.getAttributeNames().filter((attribute) => attribute.startsWith("_ngcontent"));
      for (const part of [made, ...parts]) for (const attribute of scope) part.setAttribute(attribute, "");
      parts.push(element("dd", "evergreen-groups-wide", wide));
    } else if (value) {
      parts[1].append(wide);
    } else {
      parts[0].className = "col-md-12";
      parts[0].append(wide);
    }
    made.append(...parts);
    return made;
  }

  function rows(page) {
    if (!asked.answer) {
      const text = element("div", "evergreen-groups-note", TEXTS[asked.problem], " ");
      text.setAttribute("role", "status");
      if (/down|ended/.test(asked.problem)) text.append(retry(asked));
      return [row(page, asked.problem, false, "Group Members", null, text)];
    }
    const total = asked.answer.group_fines;
    const note = element("div", "evergreen-groups-note", "for information only");
    const details = element("div", "", members(page, asked.answer), groupLink(page));
    return [
      row(page, "ready", Number(total) > 0, label, money(total, page), note),
      row(page, "ready", false, spoken("Group Members"), null, details),
      ...(page.stock ? [element("div", "evergreen-groups-even")] : []), // keeps the stripes in turn
    ];
  }

  function take() {
    if (shown) shown.rows.forEach((one) => one.remove());
    shown = null;
  }

  /** Whether there is something to show, and the summary on screen is surely that patron's. */
  function showable(page) {
    if (!page.fines) return false;
    const { answer, problem } = asked;
    return answer ? answer.show && (answer.barcode || "").trim() === page.card : Boolean(problem);
  }

  function put(page) {
    const trying = Boolean(asked.problem && asked.control);
    const key = JSON.stringify([page.client, page.root, page.id, asked.answer, asked.problem, label, trying, !!page.stock]);
    if (shown && shown.key === key && shown.rows[0].previousElementSibling === page.fines) return;
    const held = shown && shown.rows.some((one) => one.contains(document.activeElement));
    const href = held && document.activeElement.getAttribute("href");
    take();
    shown = { key, rows: rows(page) };
    page.fines.after(...shown.rows);
    if (!held) return;
    const focusable = shown.rows.flatMap((one) => [...one.querySelectorAll("a, button")]);
    const next = focusable.find((one) => one.getAttribute("href") === href) || focusable[0];
    if (next) next.focus();
  }

  function sync() {
    try {
      const page = currentPage();
      if (!page) {
        take();
        forget();
        return;
      }
      if (!asked || asked.id !== page.id) begin(page.id);
      label = words(page.stock) || label;
      reconsider(page);
      if (showable(page)) put(page);
      else take();
    } catch (error) {
      take();
      console.warn("evergreen-groups: the panel can't be shown:", error.name);
    } finally {
      observer.takeRecords();
    }
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

  const observer = new MutationObserver(later);
  observer.observe(document.body, {
    childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ["title", "class", "href"],
  });
  addEventListener("popstate", later);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && asked && Date.now() - asked.since > STALE) ask(asked);
  });
  sync();
})();
