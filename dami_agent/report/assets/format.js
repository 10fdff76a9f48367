// Numbers as people read them.

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const TENTH = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1, minimumFractionDigits: 1 });
const CENTS = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const SMALL = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 4 });
const MOMENT = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" });
const MINUTE = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "short" });
const NONE = "–";

const whole = (number) => (Number.isNaN(number) ? NONE : WHOLE.format(number));
const tenth = (number) => (Number.isNaN(number) ? NONE : TENTH.format(number));
const percent = (share) => (Number.isFinite(share) ? `${TENTH.format(100 * share)} %` : NONE);
const lambda = (number) => (Number.isNaN(number) ? NONE : String(Math.round(number * 100) / 100));
const plural = (count, one, many = `${one}s`) => `${WHOLE.format(count)} ${count === 1 ? one : many}`;

function seconds(number) {
  if (Number.isNaN(number)) return NONE;
  if (number < 0.9995) return `${WHOLE.format(number * 1000)} ms`;
  if (number < 59.995) return `${number.toFixed(2)} s`;
  const minutes = Math.floor(Math.round(number) / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(number) % 60} s`;
  return `${WHOLE.format(Math.floor(minutes / 60))} h ${minutes % 60} min`;
}

/** An amount of money: to the cent, below one to four digits. */
const amountOf = (amount) => (Math.abs(amount) < 1 ? SMALL : CENTS).format(amount);

/** What some rows cost, by currency: "0.42 EUR"; a dash where nothing has a price. */
function costText(rows) {
  const sums = new Map();
  for (const i of rows) {
    const currency = W.currency.values[W.currency.codes[i]] || "";
    if (!Number.isNaN(N.cost[i])) sums.set(currency, (sums.get(currency) || 0) + N.cost[i]);
  }
  return [...sums].map(([currency, amount]) => `${amountOf(amount)} ${currency}`.trim()).join(", ") || NONE;
}

const DAY = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short" });
const dayOf = (row) => DAY.format(DATA.epoch + N.start[row]);
const momentOf = (row) => MOMENT.format(DATA.epoch + N.start[row]);

/** λs of some rows: one number, or the lowest and the highest. */
function lambdaRange(rows) {
  let low = Infinity,
    high = -Infinity;
  for (const i of rows) {
    const at = N.intensity[i];
    if (at < low) low = at;
    if (at > high) high = at;
  }
  if (low > high) return NONE;
  return lambda(low) === lambda(high) ? lambda(low) : `${lambda(low)}–${lambda(high)}`;
}

/** "search, add → answer": the tools whose results were read, then those called. */
function readAndCalled(row) {
  const read = value("tools_digested", row) || [],
    called = value("tools_called", row) || [];
  if (!read.length && !called.length) return "";
  return `${read.join(", ")} → ${called.join(", ")}`.trim();
}

/** Why a call got its λ, or why it failed. */
const whyOf = (row) =>
  [value("error_type", row), value("error", row)].filter(Boolean).join(": ") || value("reason", row) || "";

/** How a call ended. */
const ending = (row) => value("error_type", row) || value("finish_reason", row) || "";

/** Anything from the ledger as one line of text. */
function plain(thing) {
  if (thing === null || thing === undefined) return NONE;
  if (Array.isArray(thing)) return thing.map((part) => (typeof part === "string" ? part : plain(part))).join(", ");
  if (typeof thing === "object")
    return Object.entries(thing)
      .map(([k, v]) => `${k}: ${plain(v)}`)
      .join("\n");
  return String(thing);
}
