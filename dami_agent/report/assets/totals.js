// The first row of the page: what it all came to, and what was saved against which baseline.

/** The q-quantile of a column over some rows (nearest rank); NaN for none. */
function quantile(column, rows, q) {
  const sorted = Float64Array.from(rows, (i) => column[i]).sort();
  return sorted.length ? sorted[Math.min(Math.ceil(q * sorted.length), sorted.length) - 1] : NaN;
}

/**
 * Output tokens saved against λ=1 on every call, as the frontier expects it: per call its mean at λ=1 less that at the
 * λ used, less a probe that was thrown away. Expected, not measured. Calls of models that the frontier does not speak
 * for are left out of both sides.
 */
function expectation(rows) {
  const frontier = DATA.frontier;
  if (!frontier) return null;
  const known = frontier.model === null ? null : W.model.values.indexOf(frontier.model);
  const least = new Map(),
    thinking = onFrontier(1).tokens;
  let calls = 0,
    saved = 0,
    decoded = 0;
  for (const i of rows) {
    if (known !== null && W.model.codes[i] !== known) continue;
    calls += 1;
    saved -= N.probe[i];
    const at = N.intensity[i];
    if (Number.isNaN(at) || value("weights_mode", i) === null) continue; // failed before anything was decoded
    if (!least.has(at)) least.set(at, onFrontier(at).tokens);
    decoded += 1;
    saved += thinking - least.get(at);
  }
  return { calls, decoded, thinking, saved, expected: decoded * thinking, left: rows.length - calls };
}

function savedCard(rows) {
  const against = expectation(rows);
  if (against === null) return ["Saved", NONE, "no baseline: the report has no frontier", "wide"];
  if (!against.decoded) return ["Saved", NONE, "no baseline: none of these calls ran on the frontier's pair", "wide"];
  const { saved, expected, decoded, thinking, left } = against;
  const text = [
    `${percent(Math.abs(saved) / expected)} of ${whole(expected)}: λ = 1 on ${plural(decoded, "call")}, `,
    `as the frontier expects it (${tenth(thinking)} output tokens each), `,
    "less its tokens at the λ used, less probes. Expected, not measured.",
    left ? ` ${plural(left, "call")} of other models left out.` : "",
  ].join("");
  return [
    saved < 0 ? "Expected to cost more" : "Expected to be saved",
    `${whole(Math.abs(saved))} tokens`,
    text,
    "wide",
  ];
}

/** Parts of a whole as one line. */
function split(parts) {
  const all = parts.reduce((total, [amount]) => total + amount, 0);
  return el(
    "div",
    { class: "bar", "aria-hidden": "true", style: { "--c": "var(--accent)" } },
    parts.map(([amount, kind]) =>
      el("i", { class: kind, style: { width: `${((100 * amount) / (all || 1)).toFixed(2)}%` } }),
    ),
  );
}

/** Output tokens and their parts. */
function outputCard(rows) {
  const [probe, thought, answer] = [N.probe, N.reasoning, N.answer].map((column) => sum(column, rows));
  const parts = [
    `reasoning ${whole(thought)}`,
    `answer ${whole(answer)}`,
    ...(probe ? [`probes ${whole(probe)}`] : []),
  ];
  const line = split([
    [thought + probe, "thought"],
    [answer, "answer"],
  ]);
  return ["Output tokens", whole(sum(N.output, rows)), parts.join(" · "), "", line];
}

function lambdaCard(rows) {
  const used = count(rows, (i) => !Number.isNaN(N.intensity[i]));
  if (!used) return ["Mean λ", NONE, "no call has one"];
  const zero = count(rows, (i) => N.intensity[i] === 0);
  return ["Mean λ", mean(N.intensity, rows).toFixed(2), `${percent(zero / used)} of the calls at λ = 0`];
}

function drawTotals(rows) {
  const runs = new Set(rows.map((i) => W.run.codes[i])).size,
    bad = count(rows, failed);
  const prompt = sum(N.prompt, rows),
    priced = count(rows, (i) => !Number.isNaN(N.money[i]));
  const [median, late] = [0.5, 0.95].map((q) => seconds(quantile(N.seconds, rows, q)));
  const cards = [
    ["Calls", whole(rows.length), `in ${plural(runs, "run")}, ${bad ? `${whole(bad)} failed` : "none failed"}`],
    outputCard(rows),
    [
      "Prompt tokens",
      whole(prompt),
      HAS_CACHED ? `${whole(sum(N.cached, rows))} of them cached` : `${whole(prompt / rows.length)} a call`,
    ],
    lambdaCard(rows),
    ["Time in calls", seconds(sum(N.seconds, rows)), `median ${median}, 95th percentile ${late}`],
    ...(HAS_MONEY ? [["Money", money(rows), `by the ledger's price table, ${plural(priced, "priced call")}`]] : []),
    savedCard(rows),
  ];
  const shown = ([name, number, text, kind = "", extra = null]) =>
    el(
      "div",
      { class: `total ${kind}`, "data-name": name },
      el("dt", {}, name),
      el("dd", { class: "number" }, number),
      extra ? el("dd", {}, extra) : null,
      el("dd", { class: "quiet" }, text),
    );
  $("totals").replaceChildren(...cards.map(shown));
}
