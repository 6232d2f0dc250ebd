/* The report as a worklist: opens follow-ups in a dialog, and saves without leaving the list.
 *
 * Without this script, the same forms are pages. Their texts come from the service.
 */
(() => {
  "use strict";
  const TIMEOUT = 20_000; // milliseconds for an answer
  const list = document.getElementById("follow-up");
  const filter = document.getElementById("status");
  const bar = list.querySelector(".selected");
  const [all, clear, most] = ["all", "clear", "most"].map((id) => document.getElementById(id));
  const groups = document.getElementById("groups");
  const place = () => [...list.querySelectorAll("input[type=hidden]")].map(({ name, value }) => [name, value]);
  const { separator } = JSON.parse(document.documentElement.dataset.money);
  const number = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, separator);
  /** Return the boxes of groups that the filters show, or of those in a state. */
  const boxes = (state = "") => {
    return [...list.querySelectorAll(`input[name=group]${state}`)].filter((box) => !box.closest("tbody").hidden);
  };
  const selected = () => boxes(":checked");

  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "follow-up-heading");
  const spoken = document.createElement("div");
  spoken.setAttribute("role", "status");
  document.body.append(dialog);
  list.prepend(spoken);
  let opener = null;

  const look = () => {
    const count = selected().length;
    const possible = count ? Math.min(boxes().length, list.dataset.most) : 0;
    const [button] = bar.children;
    button.dataset.text ??= button.textContent;
    button.textContent = `${button.dataset.text} (${number(count)})`;
    bar.hidden = clear.hidden = !count;
    all.closest("label").hidden = !list.querySelector("input[name=group]");
    all.checked = count > 0 && count >= possible;
    all.indeterminate = count > 0 && count < possible;
    most.hidden = count < list.dataset.most;
  };
  const select = (checked) => {
    // The groups that aren't shown yet as well.
    groups.dispatchEvent(new Event("whole"));
    for (const box of list.querySelectorAll("input[name=group]")) box.checked = false;
    if (checked) for (const box of boxes().slice(0, list.dataset.most)) box.checked = true;
    look();
  };

  /** Show the content of a page with the form. Returns whether it is one. */
  const show = (html) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    const [title, main] = [page.querySelector("h1"), page.querySelector("main")];
    if (!title || !main) return false;
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = list.dataset.close;
    close.addEventListener("click", () => dialog.close());
    const back = main.querySelector(".follow-up-page .actions");
    if (back) back.remove();
    title.id = "follow-up-heading";
    dialog.replaceChildren(title, ...main.childNodes);
    (dialog.querySelector(".save") ?? dialog).append(close);
    if (!dialog.open) dialog.showModal();
    const problem = dialog.querySelector("[role=alert]");
    if (problem) problem.tabIndex = -1;
    (problem ?? dialog.querySelector("[autofocus]") ?? close).focus();
    dialog.scrollTop = 0;
    return true;
  };

  const ask = (address, options = {}) => fetch(address, {
    ...options, headers: { Accept: "text/html", ...options.headers }, signal: AbortSignal.timeout(TIMEOUT),
  });

  let latest = null;
  const open = async (address) => {
    latest = address; // an earlier one that arrives late would replace what is being typed
    let text = "";
    try { text = await (await ask(address)).text(); } catch {} // the browser says what is wrong
    if (latest === address && !show(text)) location.assign(address);
  };

  /** Show the rows as saved, and return to the list: to the group's row, or to the next if it isn't listed any more. */
  const update = (rows, done) => {
    const bodies = [...list.querySelectorAll("tbody.group")];
    const at = bodies.indexOf(opener?.closest("tbody.group"));
    const said = [];
    for (const [group, html] of Object.entries(rows)) {
      const before = list.querySelector(`button[name=group][value="${group}"]`)?.closest("tr");
      if (!before) continue;
      const template = document.createElement("template");
      template.innerHTML = `<tr>${html}`; // the last cells of the group's line, and the row below
      const [{ cells }, after] = template.content.children;
      for (const cell of [...cells, ...after.cells]) cell.setAttribute("role", "cell");
      after.setAttribute("role", "row");
      const line = before.previousElementSibling;
      for (const cell of line.querySelectorAll(".follow")) cell.remove();
      line.append(...cells);
      before.replaceWith(after);
      said.push([group, after.querySelector(".agreed")?.textContent].filter(Boolean).join(": ")); // none after deleting
    }
    const statuses = [...list.querySelectorAll("tr.follow-up")].flatMap((row) => row.dataset.status.split(" "));
    for (const option of filter.options) {
      if (!option.value) continue;
      const count = statuses.filter((status) => status === option.value).length;
      option.textContent = `${option.dataset.label} (${number(count)})`;
    }
    filter.dispatchEvent(new Event("change"));
    look();
    dialog.close();
    requestAnimationFrame(() => {
      const next = at < 0 ? null : bodies.slice(at).find((body) => !body.hidden);
      (next?.querySelector(".follow-up button") ?? filter).focus();
      spoken.textContent = [done, ...said].join(" · ");
    });
  };

  /** Return a form token of the current session: after logging in again, the form's own isn't accepted. */
  const freshToken = async (form) => {
    const groups = [...form.querySelectorAll("input[name=group]")].map(({ value }) => ["group", value.split(":")[0]]);
    const answer = await ask(`${list.action}?${new URLSearchParams([...place(), ...groups])}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    return page.querySelector(".entry-form input[name=form]")?.value;
  };

  const send = async (form, body) => {
    const headers = { "Idempotency-Key": body.get("key") };
    if (dialog.dataset.ended) body.set("form", await freshToken(form) ?? body.get("form"));
    const answer = await ask(form.action, { method: "POST", headers, body });
    if ([502, 503, 504].includes(answer.status)) throw new Error(answer.status);
    return [answer, await answer.text()];
  };

  let busy = false;
  const save = async (form, submitter) => {
    if (busy) return;
    busy = true;
    const body = new URLSearchParams(new FormData(form, submitter));
    try {
      // With the same key, nothing is saved twice.
      const [answer, text] = await send(form, body).catch(() => send(form, body));
      if (answer.ok) {
        return update(JSON.parse(text).rows, body.get("do") === "delete" ? list.dataset.deleted : list.dataset.saved);
      }
      dialog.toggleAttribute("data-ended", answer.status === 401);
      if (answer.status === 401) dialog.dataset.ended = "1";
      if (!show(text)) throw new Error(answer.status);
    } catch {
      if (!dialog.open) { // closed before the answer came
        dialog.replaceChildren(form);
        dialog.showModal();
      }
      const lost = dialog.querySelector("#lost") ?? document.createElement("p");
      lost.id = "lost";
      lost.className = "notes";
      lost.setAttribute("role", "alert");
      lost.textContent = list.dataset.lost;
      form.before(lost);
    } finally { busy = false; }
  };

  list.addEventListener("submit", (event) => {
    event.preventDefault();
    if (busy) return; // the answer may bring back the form that is being saved
    opener = event.submitter;
    const groups = opener?.name === "group" ? [opener] : selected();
    if (!groups.length) return;
    const query = new URLSearchParams([...place(), ...groups.map(({ value }) => ["group", value])]);
    if (opener?.formTarget) { window.open(`${opener.formAction}?${query}`, opener.formTarget); return; } // the letters
    if (opener?.name !== "group") opener = groups[0].closest("tr").querySelector("button");
    delete dialog.dataset.ended;
    open(`${list.action}?${query}`);
  });
  list.addEventListener("change", ({ target }) => { if (target === all) select(all.checked); else look(); });
  clear.addEventListener("click", () => {
    select(false);
    all.focus();
  });
  groups.addEventListener("filtered", look);
  dialog.addEventListener("submit", (event) => {
    event.preventDefault();
    const form = event.target;
    if (form.method === "post") save(form, event.submitter);
    else open(`${list.action}?${new URLSearchParams(new FormData(form, event.submitter))}`);
  });
  dialog.addEventListener("input", ({ target }) => {
    const form = target.closest("form");
    if (target.name === "remind_on") {
      for (const radio of form.elements.weeks) radio.checked = !target.value && radio.value === "0";
    }
    if (target.name === "weeks") form.elements.remind_on.value = "";
  });
  dialog.addEventListener("close", () => {
    dialog.replaceChildren();
    if (document.activeElement === document.body) opener?.focus();
  });
  addEventListener("pageshow", look); // after the browser has restored the checkboxes
  look();
})();
