// λ histogram, and the frontier with the calls on it.

const BINS = 20; // of width 0.05, around 0, 0.05, …, 1

function drawHistogram(rows) {
  const counts = new Array(BINS + 1).fill(0);
  let without = 0;
  for (const i of rows) Number.isNaN(N.intensity[i]) ? (without += 1) : (counts[Math.round(N.intensity[i] * BINS)] += 1);
  const most = Math.max(...counts, 1);
  const bars = counts.map((count, at) => {
    const middle = at / BINS, from = Math.max(middle - 0.5 / BINS, 0), to = Math.min(middle + 0.5 / BINS, 1);
    const label = `λ about ${lambda(middle)}: ${plural(count, "call")}`;
    const fill = el("i", { style: { background: colour(middle), height: count ? `max(3px, ${(100 * count) / most}%)` : "0" } });
    return button(fill, () => setFilters({ from: lambda3(from), to: lambda3(to) }), { class: "column", title: label, "aria-label": label, disabled: count === 0 });
  });
  const axis = [0, 0.25, 0.5, 0.75, 1].map((at) => el("span", {}, lambda(at)));
  const note = `Tallest bar: ${plural(most, "call")}.${without ? ` ${plural(without, "call")} without λ: failed before one was chosen.` : ""}`;
  $("histogram").replaceChildren(el("div", { class: "columns", role: "group", "aria-label": "Calls by λ" }, bars),
    el("div", { class: "axis", "aria-hidden": "true" }, axis), el("p", { class: "note" }, note));
}

const lambda3 = (number) => String(Math.round(number * 1000) / 1000);

/** The frontier's accuracy and tokens at any λ: between two measured λs a straight line. */
function onFrontier(at) {
  const rows = DATA.frontier.rows, above = rows.findIndex((row) => row.lambda >= at);
  if (above <= 0) return above === 0 ? rows[0] : rows[rows.length - 1];
  const [low, high] = [rows[above - 1], rows[above]], share = (at - low.lambda) / (high.lambda - low.lambda);
  const between = (name) => low[name] + share * (high[name] - low[name]);
  return { accuracy: between("accuracy"), tokens: between("tokens") };
}

/** Ticks at round numbers from 0 to at least `most`, about `count` of them. */
function ticks(most, count) {
  const rough = most / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  return Array.from({ length: Math.ceil(most / step - 1e-9) + 1 }, (_, at) => at * step);
}

/** Calls by the λ they used, to two digits. */
function byLambda(rows) {
  const groups = groupBy(rows.filter((i) => !Number.isNaN(N.intensity[i])), (i) => Math.round(N.intensity[i] * 100) / 100);
  return groups.sort((a, b) => a.key - b.key);
}

function drawFrontier(rows) {
  const box = $("frontier"), frontier = DATA.frontier;
  if (!frontier) {
    box.replaceChildren(el("p", { class: "note" }, "No frontier: measure one with `dami sweep --json`, then name it with `dami report --frontier FILE`."));
    return;
  }
  const groups = byLambda(rows);
  const width = Math.max(box.clientWidth, 280), height = Math.min(Math.max(width * 0.45, 240), 360);
  const note = `Line: accuracy and mean output tokens measured at each λ (${[frontier.pair, frontier.source].filter(Boolean).join(", ")}); whiskers: 95 % intervals; filled points are Pareto-efficient. `
    + "Circles: these calls, at the place the frontier gives their λ; area is their number. Their own accuracy is not known.";
  box.replaceChildren(el("p", { class: "note" }, note), frontierPlot(groups, width, height, rows), frontierTable(groups));
}

function frontierPlot(groups, width, height, rows) {
  const points = DATA.frontier.rows, pad = { left: 46, right: 18, top: 14, bottom: 40 };
  const across = ticks(Math.max(...points.map((p) => p.tokens)), width < 500 ? 4 : 8), up = [0, 0.25, 0.5, 0.75, 1];
  const x = (tokens) => pad.left + (tokens / across[across.length - 1]) * (width - pad.left - pad.right);
  const y = (accuracy) => height - pad.bottom - accuracy * (height - pad.top - pad.bottom);
  const grid = [
    ...across.map((t) => [svg("line", { x1: x(t), x2: x(t), y1: y(0), y2: y(1) }), svg("text", { x: x(t), y: height - 22, "text-anchor": "middle" }, whole(t))]),
    ...up.map((a) => [svg("line", { x1: x(0), x2: width - pad.right, y1: y(a), y2: y(a) }), svg("text", { x: pad.left - 8, y: y(a) + 4, "text-anchor": "end" }, `${100 * a} %`)]),
  ].flat();
  const line = svg("polyline", { class: "line", points: points.map((p) => `${x(p.tokens)},${y(p.accuracy)}`).join(" ") });
  const most = largest(groups, (g) => g.members.length, 1);
  const circles = groups.map((g) => {
    const place = onFrontier(g.key), text = `λ ${lambda(g.key)}: ${plural(g.members.length, "call")}`;
    return svg("circle", { class: "used", cx: x(place.tokens), cy: y(place.accuracy), r: Math.max(22 * Math.sqrt(g.members.length / most), 4), fill: colour(g.key) }, svg("title", {}, text));
  });
  const whiskers = points.map((p) => svg("line", { class: "whisker", x1: x(p.tokens), x2: x(p.tokens), y1: y(Math.min(p.accuracy + p.accuracy_ci, 1)), y2: y(Math.max(p.accuracy - p.accuracy_ci, 0)) }));
  const dots = points.map((p) => svg("circle", { class: p.efficient ? "dot" : "dot beaten", cx: x(p.tokens), cy: y(p.accuracy), r: 3.5 },
    svg("title", {}, `λ ${lambda(p.lambda)}: ${percent(p.accuracy)} ± ${percent(p.accuracy_ci)}, ${tenth(p.tokens)} tokens`)));
  const took = rows.length ? mean(N.output, rows) : NaN;
  const mark = took <= across[across.length - 1]
    ? [svg("line", { class: "took", x1: x(took), x2: x(took), y1: y(0), y2: y(1) }), svg("text", { class: "took", x: x(took) + (took > across[across.length - 1] * 0.6 ? -6 : 6), y: y(0) - 8, "text-anchor": took > across[across.length - 1] * 0.6 ? "end" : "start" }, `these calls' mean: ${tenth(took)}`)]
    : [];
  const ends = [points[0], points[points.length - 1]].map((p, at) => svg("text", { x: x(p.tokens) + (at ? 6 : 28), y: y(p.accuracy) + (at ? 38 : 16), "text-anchor": at ? "end" : "start" }, `λ = ${lambda(p.lambda)}`));
  return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Accuracy against output tokens; the same numbers follow as a table" },
    svg("g", { class: "grid" }, grid), svg("text", { x: width - pad.right, y: height - 5, "text-anchor": "end" }, "mean output tokens"), circles, line, whiskers, dots, mark, ends);
}

function frontierTable(groups) {
  const columns = [["λ", ""], ["Calls", "num"], ["Their mean output", "num"], ["Frontier's mean output", "num"], ["Frontier's accuracy", "num"]];
  const table = simpleTable("The frontier and the calls by λ", columns, groups.map(({ key, members }) => {
    const place = onFrontier(key);
    return [chip(key), whole(members.length), tenth(mean(N.output, members)), tenth(place.tokens), percent(place.accuracy)];
  }));
  return el("details", {}, el("summary", {}, "As a table"), table);
}
