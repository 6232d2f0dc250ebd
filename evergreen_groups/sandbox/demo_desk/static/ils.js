// What both demo pages ask of the gateway, with the session in the staff client's cookie.

const CLASSES = ["au", "ac", "aou", "pgt", "mous", "mbts"];
let orders = null;

/** The staff session's token; null without one. */
export function token() {
  const found = /(?:^|; )eg\.auth\.token=([^;]*)/.exec(document.cookie);
  return found ? JSON.parse(decodeURIComponent(found[1])) : null;
}

/** Call a method of the ILS and return its first result; null if there is none. */
export async function request(service, method, ...params) {
  const fields = [["service", service], ["method", method], ...params.map((param) => ["param", JSON.stringify(param)])];
  const body = fields.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
  const headers = { "Content-Type": "application/x-www-form-urlencoded" };
  const response = await fetch("/osrf-gateway-v1", { method: "POST", headers, body });
  const answer = await response.json();
  if (answer.status !== 200) throw new Error(`${method}: status ${answer.status}`);
  const result = answer.payload.length ? answer.payload[0] : null;
  if (result && result.textcode && result.textcode !== "SUCCESS") throw new Error(`${method}: ${result.textcode}`);
  return result;
}

async function fieldOrders() {
  const query = CLASSES.map((name) => `class=${name}`).join("&");
  const text = await (await fetch(`/reports/fm_IDL.xml?${query}`)).text();
  const idl = new DOMParser().parseFromString(text, "text/xml");
  const all = (node, name) => [...node.getElementsByTagNameNS("*", name)];
  const marks = ["isnew", "ischanged", "isdeleted"]; // behind the fields of every class
  const named = (node) => [...all(node, "field").map((field) => field.getAttribute("name")), ...marks];
  return Object.fromEntries(all(idl, "class").map((one) => [one.getAttribute("id"), named(one)]));
}

function decode(value) {
  if (Array.isArray(value)) return value.map(decode);
  if (!value || !value.__c) return value;
  return Object.fromEntries(orders[value.__c].map((field, place) => [field, decode(value.__p[place])]));
}

async function records(where, limit) {
  orders = orders || (await fieldOrders());
  const options = { flesh: 1, flesh_fields: { au: ["card", "home_ou", "profile"] }, order_by: { au: "id" }, limit };
  const found = await request("open-ils.pcrud", "open-ils.pcrud.search.au.atomic", token(), where, options);
  return decode(found).map((record) => ({
    id: record.id,
    group: record.usrgroup,
    name: `${record.family_name}, ${record.first_given_name}`,
    card: record.card ? record.card.barcode : "",
    username: record.usrname,
    library: record.home_ou.shortname,
    profile: record.profile.name,
    lead: record.master_account === "t",
  }));
}

/** A patron's record; null where there is none or it may not be seen. */
export async function patron(id) {
  return (await records({ id }, 1))[0] || null;
}

/** The patrons that the account may see. */
export function everyone() {
  return records({ deleted: "f", id: { ">": 1000 } }, 200);
}

/** The members of a group that the account may see, each with what is owed. */
export async function members(group) {
  const [people, balances] = await Promise.all([records({ deleted: "f", usrgroup: group }, 200), owedInGroup(group)]);
  return people.map((person) => ({ ...person, owed: balances.get(Number(person.id)) || 0 }));
}

/** Return the patron with this primary card, or null. */
export async function byBarcode(barcode) {
  const id = await request("open-ils.actor", "open-ils.actor.user.retrieve_id_by_barcode_or_username", token(), barcode);
  return patron(Number(id));
}

/** Move a patron into a group, as the clients do: the whole record is sent back. */
export async function moveInto(group, id) {
  const record = await request("open-ils.actor", "open-ils.actor.user.retrieve", token(), id);
  const write = (field, value) => (record.__p[orders.au.indexOf(field)] = value);
  for (const [field, value] of Object.entries({ usrgroup: group, ischanged: "1", passwd: null })) write(field, value);
  await request("open-ils.actor", "open-ils.actor.patron.update", token(), record);
}

/** Give a patron a group of their own, and make them its lead, as the clients do. */
export const newGroup = (id) => request("open-ils.actor", "open-ils.actor.usergroup.new", token(), id, true);

async function owedInGroup(group) {
  const method = "open-ils.actor.usergroup.members.balance_owed";
  const rows = await request("open-ils.actor", method, token(), group);
  return new Map(rows.map((row) => [Number(row.usr), Number(row.balance_owed)]));
}

/** What a patron owes, and what the whole group owes, as numbers. */
export async function fines(id, group) {
  const method = "open-ils.actor.user.fines.summary";
  const [own, rows] = await Promise.all([request("open-ils.actor", method, token(), id), owedInGroup(group)]);
  const total = [...rows.values()].reduce((sum, amount) => sum + Math.round(amount * 100), 0) / 100;
  return { owed: own ? Number(decode(own).balance_owed) : 0, group: total };
}

/** What a patron owes, by transaction. */
async function bills(id) {
  const rows = await request("open-ils.pcrud", "open-ils.pcrud.search.mbts.atomic", token(), { usr: id, balance_owed: { ">": 0 } });
  return decode(rows).map((row) => [Number(row.id), row.balance_owed]);
}

/** Pay all that a patron owes, as the clients do. */
async function pay(id, payments) {
  const record = decode(await request("open-ils.actor", "open-ils.actor.user.retrieve", token(), id));
  const payment = { userid: id, payment_type: "cash_payment", payments };
  await request("open-ils.circ", "open-ils.circ.money.payment", token(), payment, record.last_xact_id);
}

/** Show the tab Bills in `place`: a button that pays everything, then calls `paid`. */
export async function billsTab(place, id, paid) {
  const owed = await bills(id);
  if (!owed.length) return;
  const sum = owed.reduce((total, [, amount]) => total + Math.round(amount * 100), 0) / 100;
  const button = element("button", gettext("Pay {amount}", { amount: currency(sum) }), { type: "button", class: "btn", id: "pay" });
  button.addEventListener("click", async () => {
    button.remove();
    await pay(id, owed);
    await paid();
  });
  place.append(button);
}

const { texts } = JSON.parse(document.getElementById("texts").textContent);
const language = document.documentElement.lang.replace("ar-XB", "he");

/** A text in the client's language. */
export const gettext = (text, values = {}) =>
  (texts[text] || text).replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));

/** An amount as the clients write it: in the language's order, with ASCII digits. */
export function currency(amount) {
  const style = { style: "currency", currency: "USD", currencyDisplay: "narrowSymbol", numberingSystem: "latn" };
  return amount.toLocaleString(language, style);
}

/** Go to the login page where the session has ended; true where it hasn't. */
export async function loggedIn() {
  try {
    if (token()) return Boolean(await request("open-ils.auth", "open-ils.auth.session.retrieve", token(), null, 1));
  } catch {
    // the session has ended
  }
  location.href = `/eg2/${document.documentElement.lang}/staff/login?routeTo=${encodeURIComponent(location.pathname)}`;
  return false;
}

/** Tell all tabs of the browser, as the clients do; the login page, where the link leads, ends the session. */
export function logOut() {
  new BroadcastChannel("eg.auth").postMessage({ action: "logout", domain: "eg.auth" });
}

/** Make the button switch between light and dark, and keep the choice as the clients do; older ones have none. */
export function colorMode(button) {
  if (!button) return;
  const key = "eg.ui.general.colormode";
  button.addEventListener("click", () => {
    const mode = document.documentElement.dataset.bsTheme === "dark" ? "light" : "dark";
    document.documentElement.dataset.bsTheme = mode;
    localStorage.setItem(key, JSON.stringify(mode));
  });
  document.documentElement.dataset.bsTheme = JSON.parse(localStorage.getItem(key) || '"light"');
}

/** An element with text; `attributes` may be left out. */
export function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

export const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
