// The clients' own list of a group, which both demo pages show in the tab Group Member Details. It does what the real
// one does. The frame with the group's page covers it.
import { byBarcode, currency, element, fines, gettext, members, moveInto, newGroup } from "./ils.js";

const COLUMNS = [
  gettext("Last Name"), gettext("First Name"), gettext("Balance Owed"), gettext("Barcode"), gettext("Group Lead"),
];
const CARD = 3;

function cells(person) {
  const [family, first] = person.name.split(", ");
  return [family, first, currency(person.owed), person.card, person.lead ? gettext("yes") : gettext("no")];
}

/** Ask for a barcode, show the patron if the client does so, and return the patron, or null if there is none. */
function prompted(place, says, showsFirst) {
  return new Promise((done) => {
    const dialog = element("form", "", { class: "modal", role: "dialog", "aria-label": says });
    const field = element("input", "", { "aria-label": says, required: "" });
    const found = element("span", "", { role: "status" });
    const go = element("button", showsFirst ? gettext("Find") : gettext("Confirm"), { class: "btn" });
    dialog.append(element("label", says), field, found, go);
    let patron = null;
    dialog.addEventListener("submit", async (event) => {
      event.preventDefault();
      const known = patron;
      patron = patron || (await byBarcode(field.value.trim()));
      if (showsFirst && patron && !known) {
        found.textContent = gettext("Move user into this group? {name} : {card}", patron);
        go.textContent = gettext("Confirm");
        return;
      }
      dialog.remove();
      done(patron);
    });
    place.prepend(dialog);
    field.focus();
  });
}

/** Show a patron's group in `place`. `rowOf` makes a row; `showsFirst` shows a patron before moving them. */
export async function groupList({ place, body, actions, whose, rowOf, link, showsFirst }) {
  async function load() {
    const people = await members(whose.group);
    body.replaceChildren(
      ...people.map((person) => {
        const pick = element("input", "", { type: "checkbox", "aria-label": gettext("Select {name}", person), value: person.id });
        const texts = cells(person).map((text, at) => (at === CARD ? link(person) : text));
        const row = rowOf([pick, ...texts]);
        row.dataset.patron = person.id;
        row.classList.add("eg-grid-row");
        return row;
      }),
    );
    const { group } = await fines(whose.id, whose.group);
    place.querySelector("[data-total]").textContent = currency(group);
  }

  const selected = () => [...body.querySelectorAll(":checked")].map((pick) => Number(pick.value));
  const [move, remove] = [
    gettext("Move Another Patron To This Group"), gettext("Remove Selected From Group"),
  ].map((name) => element("button", name, { type: "button", class: "btn" }));
  move.addEventListener("click", async () => {
    const patron = await prompted(place, gettext("Enter the patron barcode"), showsFirst);
    if (patron) await moveInto(whose.group, patron.id);
    await load();
  });
  remove.addEventListener("click", async () => {
    for (const id of selected()) await newGroup(id);
    await load();
  });
  actions.append(move, remove);
  await load();
}

export const headings = () => ["", ...COLUMNS];
