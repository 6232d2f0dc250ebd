/* Enhancements for the desk's pages. Without scripts, the pages work too: forms, links and the server's messages. */
(() => {
  "use strict";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector) => document.querySelector(selector);
  const SCANNER_ECHO = 400; // ms: a scanner may send two line ends, and the second must not press a button
  const SCANNED = 35; // ms: a scanner's longest time for each letter
  const ASKED_AGAIN = 1500; // ms between two polls of a running change

  // The page contains the texts in the reader's language, with placeholders in braces.
  const { separator } = JSON.parse(document.documentElement.dataset.money);
  const number = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, separator);
  const filled = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? number(values[name]) : whole));

  /** Announce a text to screen readers. */
  const announce = (text) => {
    const live = one("#live");
    live.textContent = "";
    setTimeout(() => { live.textContent = text; }, 100);
  };

  // Send a form once despite a double click. The server would apply it once too, but the second answer takes longer.
  const guard = (form) => form.addEventListener("submit", (event) => {
    if (form.dataset.sent) return event.preventDefault();
    form.dataset.sent = "1";
    // Disable only after the form has been read: a disabled button's value isn't sent.
    setTimeout(() => all("button", form).forEach((button) => button.setAttribute("aria-disabled", "true")));
  });
  // Going back may restore an outdated page. Reload the current state of the group.
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  /** A scanner types into the focused element. Redirect its input to the card field, unless another field is meant. */
  const collectScans = (card) => {
    addEventListener("keydown", (event) => {
      const early = performance.now() < SCANNER_ECHO; // since the line end that led to this page
      if (event.key === "Enter" && early && !card?.value) return event.preventDefault();
      if (!card || event.ctrlKey || event.altKey || event.metaKey || event.key.length !== 1 || event.key === " ") return;
      if (!event.target.closest("input:not([type=checkbox]), select, textarea")) card.focus();
    }, true);
  };

  /** Filter the rows while the user types. Without scripts, the field's form does the same. */
  const searchWithin = (field) => {
    const rows = all("#members tbody tr");
    const parts = "bdi, .barcode, .badge, strong"; // as on the server, which doesn't search in dates either
    const texts = rows.map((row) => all(parts, row).map((part) => part.textContent.toLowerCase()).join(" "));
    const count = one("#within-count");
    all("[data-without-script]", field.form).forEach((button) => { button.hidden = true; });
    const look = () => {
      const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, place) => {
        row.hidden = !wanted.every((word) => texts[place].includes(word));
        shown += !row.hidden;
      });
      count.textContent = wanted.length ? filled(count.dataset.text, { shown, all: rows.length }) : "";
    };
    field.addEventListener("input", look);
    field.form.addEventListener("submit", (event) => { event.preventDefault(); look(); announce(count.textContent); });
    if (field.value) look();
  };

  /** Count the selected members, and select all at once. The style sheet shows the buttons for them. */
  const select = (form) => {
    const boxes = all("input[name=member]", form);
    const whole = one("#select-all");
    const visible = () => boxes.filter((box) => !box.closest("tr").hidden);
    const look = () => {
      const chosen = boxes.filter((box) => box.checked);
      const label = one("#selected-label");
      label.textContent = filled(label.dataset.counted, { count: chosen.length });
      const shown = visible();
      whole.checked = shown.length > 0 && shown.every((box) => box.checked);
      whole.indeterminate = chosen.length > 0 && !whole.checked;
    };
    whole.hidden = false;
    whole.addEventListener("change", () => {
      visible().forEach((box) => { box.checked = whole.checked; });
      look();
    });
    form.addEventListener("change", look);
    addEventListener("pageshow", look); // after the browser has restored the checkboxes
    look();
  };

  /** Restore table roles, which some browsers drop when a table is displayed as cards. */
  const keepRoles = (parts) => {
    const roles = { TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TFOOT: "rowgroup", TR: "row", TD: "cell" };
    for (const part of parts) {
      const role = part.tagName === "TH" ? (part.scope === "row" ? "rowheader" : "columnheader") : roles[part.tagName];
      if (role) part.setAttribute("role", role);
    }
  };

  /** Return the cells of a row that don't fit, as lines with their headings. */
  const withoutRoom = (row) => all(".profile, .expires", row).filter((cell) => !cell.offsetParent).map((cell) => {
    const [line, label] = [document.createElement("div"), document.createElement("span")];
    label.className = "soft";
    label.textContent = `${cell.dataset.label} `;
    line.append(label, ...[...cell.childNodes].map((node) => node.cloneNode(true)));
    return line;
  });

  /** Show all remarks about a member, and their bills and items, below their row. */
  const unfold = (link) => {
    const row = link.closest("tr");
    let busy = false;
    link.setAttribute("aria-expanded", "false");
    const fold = () => {
      row.nextElementSibling.remove();
      link.setAttribute("aria-expanded", "false");
    };
    const show = async () => {
      const answer = await fetch(link.href, { headers: { Accept: "text/html" } });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const found = page.getElementById("affairs");
      if (!found) return location.assign(link.href); // that page says what is wrong
      const [below, cell] = [document.createElement("tr"), document.createElement("td")];
      below.className = "unfolded";
      cell.colSpan = row.cells.length;
      found.removeAttribute("id"); // several members may be unfolded, so the id would not be unique
      cell.append(...all(".remarks", row).map((remarks) => remarks.cloneNode(true)), ...withoutRoom(row), found);
      below.append(cell);
      row.after(below);
      keepRoles([below, ...all("*", below)]);
      link.setAttribute("aria-expanded", "true");
      announce(found.getAttribute("aria-label"));
    };
    link.addEventListener("click", async (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      if (link.getAttribute("aria-expanded") === "true") return fold();
      if (busy) return;
      busy = true;
      try { await show(); } catch { location.assign(link.href); } finally { busy = false; }
    });
  };

  /** Work a menu with the keyboard: Down opens it, arrows move, Escape closes it, as leaving it does. */
  const menu = (box) => {
    const opener = box.querySelector("summary");
    const steps = { ArrowDown: 1, ArrowUp: -1 };
    const leave = ({ target }) => { if (!box.contains(target)) box.open = false; };
    addEventListener("click", leave);
    addEventListener("focusin", leave);
    box.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && box.open) {
        box.open = false;
        opener.focus();
      } else if (event.key in steps) {
        box.open = true;
        const items = all("div > :not([hidden])", box);
        const place = items.indexOf(document.activeElement) + (event.key === "ArrowUp" && event.target === opener ? 1 : 0);
        items.at((place + steps[event.key]) % items.length).focus();
      } else return;
      event.preventDefault();
    });
  };

  /** Poll a running change until it has ended, then show the group. */
  const follow = async (box) => {
    const address = box.dataset.underWay;
    for (;;) {
      await new Promise((done) => setTimeout(done, ASKED_AGAIN));
      try {
        if (!box.isConnected) return undefined; // the user has logged out
        const answer = await fetch(address, { headers: { Accept: "text/html" } });
        // For example, the session has ended. Open the page that explains it: further polling would never show more.
        if ([401, 403, 404].includes(answer.status)) return location.replace(address);
        if (!answer.ok) continue;
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const news = page.getElementById("outcome");
        if (!news || !news.dataset.underWay) return location.replace(address);
        const [mine, theirs] = [box, news].map((root) => root.querySelector("progress"));
        mine.value = theirs.value;
        mine.nextSibling.textContent = theirs.nextSibling.textContent;
      } catch { /* the next look may get through */ }
    }
  };

  /** Tell the panel in the client's patron summary to read the figures again after a change. */
  const spread = ({ patrons, groups }) => {
    const numbers = (text) => text.split(" ").filter(Boolean).map(Number);
    const channel = new BroadcastChannel("evergreen-groups");
    channel.postMessage({ kind: "changed", patrons: numbers(patrons), groups: numbers(groups) });
    channel.close();
  };

  /** Remove all names from the screen when the user logs out of the client. */
  const leaveWithSession = () => {
    const leave = () => {
      const farewell = one("#logged-out").content.cloneNode(true);
      document.title = farewell.querySelector("h1").textContent;
      document.body.replaceChildren(farewell);
    };
    const channel = new BroadcastChannel("eg.auth");
    channel.addEventListener("message", ({ data }) => data?.action === "logout" && leave());
    // The AngularJS client's link doesn't notify other tabs, but it deletes the session's cookie.
    const hasCookie = () => /(?:^|; )eg\.auth\.token=/.test(document.cookie);
    if (!hasCookie()) return; // a server may hide the cookie from scripts
    const look = () => hasCookie() || leave();
    document.addEventListener("visibilitychange", look);
    if (window.cookieStore) cookieStore.addEventListener("change", look);
  };

  // In a frame, browsers apply autofocus only to the first page.
  if (document.activeElement === document.body) one("[autofocus]")?.focus();
  /** Enter after a user name leads to the password, except after a scan: the server looks that up. */
  const approve = (username, password, card) => {
    const isCard = (field) => card && /^[0-9]{8,}$/.test(field.value.trim()); // as in forms.py
    let began = 0;
    username.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || password.value || isCard(username)) return;
      event.preventDefault();
      password.focus();
    });
    // No one types a password of digits as fast as a scanner.
    password.addEventListener("keydown", (event) => {
      if (!password.value && event.key.length === 1) began = event.timeStamp;
      if (event.key !== "Enter" || !isCard(password) || event.timeStamp - began > SCANNED * password.value.length) return;
      card.value = password.value;
      password.value = "";
    });
  };
  if (one("#username")) approve(one("#username"), one("#password"), one("#card"));
  const found = all("#found button");
  addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !found.length) return;
    event.preventDefault();
    found[Math.min(Math.max(found.indexOf(document.activeElement) + step, 0), found.length - 1)].focus();
  });
  if (one("#card")?.value) one("#card").select(); // the next scan replaces an unknown card
  // Pages that answer a form have no URL. Reload and back show the group instead of sending the form again.
  if (document.body.dataset.group) history.replaceState(null, "", document.body.dataset.group);
  all("form[data-guarded]").forEach(guard);
  collectScans(one("#card"));
  if (one("#within") && one("#members")) searchWithin(one("#within"));
  if (one("#selection") && one("#select-all")) select(one("#selection"));
  all("[data-unfold]").forEach(unfold);
  all(".menu").forEach(menu);
  all("[data-print]").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", () => print());
  });
  const box = one("#outcome");
  if (box) announce(one("#outcome-heading").textContent);
  if (box?.dataset.underWay) follow(box);
  if (document.body.dataset.change) spread(document.body.dataset);
  leaveWithSession();
  keepRoles(all("#members, #members *, #found, #found *, .lines, .lines *"));
})();
