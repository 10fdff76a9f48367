// The first row of the page: what it all came to, and what was saved against which baseline.

/** The q-quantile of a column over some rows (nearest rank); NaN for none. */
function quantile(column, rows, q) {
  const sorted = Float64Array.from(rows, (i) => column[i]).sort();
  return sorted.length ? sorted[Math.min(Math.ceil(q * sorted.length), sorted.length) - 1] : NaN;
}

/** Tokens saved, with what they are saved against; calls of which nothing is known are left out, and counted. */
function savedCard(rows) {
  const stated = DATA.saved,
    known = rows.filter((i) => !Number.isNaN(N.saved[i])),
    left = rows.length - known.length;
  if (!stated || !known.length) return ["Saved", NONE, "no baseline: no frontier speaks for these calls", "wide"];
  const saved = sum(N.saved, known),
    expected = sum(N.output, known) + saved;
  const text = [
    `${percent(Math.abs(saved) / expected)} of ${whole(expected)}. Baseline: ${stated.baseline}; ${stated.method}.`,
    left ? ` ${plural(left, "call")} left out: no frontier speaks for them.` : "",
  ];
  return [
    saved < 0 ? "Expected to cost more" : "Saved, expected",
    `${whole(Math.abs(saved))} tokens`,
    text.join(""),
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
  const [discarded, thought, answer] = [N.discarded, N.reasoning, N.answer].map((column) => sum(column, rows));
  const parts = [
    `reasoning ${whole(thought)}`,
    `answer ${whole(answer)}`,
    ...(discarded ? [`discarded ${whole(discarded)}`] : []),
  ];
  const line = split([
    [thought + discarded, "thought"],
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
    priced = count(rows, (i) => !Number.isNaN(N.cost[i]));
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
    ...(HAS_COST ? [["Cost", costText(rows), `by the ledger's price table, ${plural(priced, "priced call")}`]] : []),
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
