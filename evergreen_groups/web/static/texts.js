/* Texts, numbers and money in the reader's language, from the service: gettext for our scripts.
 *
 * Texts are looked up by their English form, which is the fallback. Placeholders are in braces.
 * language/catalogue.py describes the data.
 */

// How to write amounts: money_form() in language/numbers.py.
const DOLLARS = { around: [["$", ""], ["-$", ""]], point: ".", places: 2, separator: ",", groups: [3, 3] };
const ENGLISH = { tag: "en", direction: "ltr", dates: "en-GB", money: DOLLARS, plurals: {}, texts: {} };
const PSEUDO = "ar-XB"; // the test language, which uses Hebrew letters
let language = ENGLISH;

/** Use this language from now on. */
export function use(another) {
  if (another && another.texts) language = { ...ENGLISH, ...another };
}

export const tag = () => language.tag;
export const direction = () => language.direction;
const locale = () => (language.tag === PSEUDO ? "he" : language.tag);

const filled = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));

export const gettext = (text, values = {}) => filled(language.texts[text] || text, values);

export const pgettext = (context, text, values = {}) => filled(language.texts[`${context}\u0004${text}`] || text, values);

/** Translate a text that depends on a count, which is {count} in it. */
export function ngettext(one, many, count, values = {}) {
  const forms = language.texts[one] || [one, many];
  const english = { one: 0, other: 1 };
  const rules = new Intl.PluralRules(language.texts[one] ? locale() : "en");
  const place = (language.texts[one] ? language.plurals : english)[rules.select(count)];
  return filled(forms[place === undefined ? forms.length - 1 : place], { count: number(count), ...values });
}

export function number(value) {
  const { separator, groups: [last, before] } = language.money;
  return String(value).replace(new RegExp(`\\B(?=(\\d{${before}})*\\d{${last}}$)`, "g"), separator);
}

/** Format an amount with its currency. */
export function money(amount) {
  const { around, point, places } = language.money;
  const [whole, ...cents] = Math.abs(amount).toFixed(places).split(".");
  const [before, after] = around[Number(amount < 0)];
  return before + [number(whole), ...cents].join(point) + after;
}

/** Format the day of a time (ISO 8601), as day() in language/numbers.py. */
export function day(moment) {
  const [year, month, date] = String(moment).slice(0, 10).split("-").map(Number);
  const style = { dateStyle: "medium", timeZone: "UTC" };
  const said = new Intl.DateTimeFormat(language.dates, style).format(Date.UTC(year, month - 1, date));
  return /^fr/.test(language.dates) ? said.replace(/^1 /, "1er ") : said;
}

/** Join several phrases in a sentence. */
export const enumeration = (parts) => new Intl.ListFormat(language.dates).format(parts);
