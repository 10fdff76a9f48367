// The ledger's rows as columns; a row is an index, oldest first. See columns.py for the four forms of a column.

const DATA = JSON.parse(document.getElementById("data").textContent);
const COUNT = DATA.count;

/** The value of column `spec` in row `i`. */
function valueIn(spec, i) {
  if (spec === undefined) return null;
  if ("all" in spec) return spec.all;
  if ("list" in spec) return spec.list[i];
  if ("codes" in spec) return spec.values[spec.codes[i]];
  const fields = {};
  for (const [name, inner] of Object.entries(spec.fields)) {
    const value = valueIn(inner, i);
    if (value !== null) fields[name] = value;
  }
  return fields;
}

const value = (name, i) => valueIn(DATA.columns[name], i);

/** A column of numbers, `missing` where it has none; a column that the ledger does not have is all missing. */
function numbers(name, missing = NaN) {
  const out = new Float64Array(COUNT),
    spec = DATA.columns[name] || { all: null };
  const number = (thing) => (typeof thing === "number" ? thing : missing);
  if ("all" in spec) return out.fill(number(spec.all));
  for (let i = 0; i < COUNT; i++) out[i] = number("list" in spec ? spec.list[i] : valueIn(spec, i));
  return out;
}

/** A column of texts as distinct values and codes into them. */
function words(name) {
  const spec = DATA.columns[name] || { all: null };
  if ("codes" in spec) return { values: spec.values, codes: Int32Array.from(spec.codes) };
  if ("all" in spec) return { values: [spec.all], codes: new Int32Array(COUNT) };
  const known = new Map();
  const codes = new Int32Array(COUNT);
  for (let i = 0; i < COUNT; i++) {
    const word = spec.list[i];
    if (!known.has(word)) known.set(word, known.size);
    codes[i] = known.get(word);
  }
  return { values: [...known.keys()], codes };
}

const N = {
  start: numbers("started_at", 0), // milliseconds since DATA.epoch
  seconds: numbers("seconds", 0),
  decode: numbers("decode_seconds", 0),
  intensity: numbers("intensity"),
  last: numbers("intensity_answer"), // of the answer, where it is another
  prompt: numbers("prompt_tokens", 0),
  cached: numbers("cached_tokens", 0),
  discarded: numbers("probe_tokens", 0), // decoded and discarded: probes, and answers begun at the thought's λ
  reasoning: numbers("reasoning_tokens", 0),
  answer: numbers("answer_tokens", 0),
  output: numbers("output_tokens", 0),
  saved: numbers("saved"),
  cost: numbers("cost"),
  ordinal: numbers("ordinal", 0),
};
numbers("discarded_tokens", 0).forEach((tokens, i) => (N.discarded[i] += tokens));
const W = {
  run: words("run"),
  tool: words("tool"),
  node: words("node"),
  user: words("user"),
  call: words("call_id"),
  model: words("model"),
  currency: words("currency"),
};
const ERROR = words("error_type"),
  GOOD = ERROR.values.indexOf(null);
const failed = (i) => ERROR.codes[i] !== GOOD;

/** Sum of a column over some rows; what is missing (NaN) counts as nothing. */
function sum(column, rows) {
  let total = 0;
  for (let k = 0; k < rows.length; k++) total += column[rows[k]] || 0;
  return total;
}

/** How many of some rows pass a test. */
function count(rows, test) {
  let passed = 0;
  for (let k = 0; k < rows.length; k++) if (test(rows[k])) passed += 1;
  return passed;
}

/** Mean of a column over the rows that have it; NaN if none has. */
function mean(column, rows) {
  return sum(column, rows) / count(rows, (i) => !Number.isNaN(column[i]));
}

/** The largest `measure` of some things; `least` if that is more. */
function largest(things, measure, least) {
  let most = least;
  for (const thing of things) most = Math.max(most, measure(thing));
  return most;
}

const CURRENCIES = W.currency.values.filter((name) => name !== null);
const HAS_COST = N.cost.some((m) => !Number.isNaN(m));
const HAS_DISCARDED = N.discarded.some((tokens) => tokens > 0);
const HAS_CACHED = N.cached.some((c) => c > 0);
