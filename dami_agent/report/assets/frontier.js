// The frontier with the calls on it.

/** The frontier's accuracy and tokens at any λ: between two measured λs a straight line. */
function onFrontier(at) {
  const rows = DATA.frontier.rows,
    above = rows.findIndex((row) => row.lambda >= at);
  if (above <= 0) return above === 0 ? rows[0] : rows[rows.length - 1];
  const [low, high] = [rows[above - 1], rows[above]],
    share = (at - low.lambda) / (high.lambda - low.lambda);
  const between = (name) => low[name] + share * (high[name] - low[name]);
  return { accuracy: between("accuracy"), tokens: between("tokens") };
}

/** Ticks at round numbers from 0 to at least `most`, about `count` of them. */
function ticks(most, count) {
  const rough = most / count,
    power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  return Array.from({ length: Math.ceil(most / step - 1e-9) + 1 }, (_, at) => at * step);
}

/** Calls by the λ they used, to two digits. */
function byLambda(rows) {
  const groups = groupBy(
    rows.filter((i) => !Number.isNaN(N.intensity[i])),
    (i) => Math.round(N.intensity[i] * 100) / 100,
  );
  return groups.sort((a, b) => a.key - b.key);
}

function drawFrontier(rows) {
  const box = $("frontier"),
    frontier = DATA.frontier;
  if (!frontier) {
    const how = "No frontier: measure one with `dami sweep --json`, then name it with `dami report --frontier FILE`.";
    box.replaceChildren(el("p", { class: "note" }, how));
    return;
  }
  const groups = byLambda(rows),
    measured = [frontier.pair, frontier.source].filter(Boolean).join(", ");
  const note = [
    `Line: accuracy and mean output tokens measured at each λ (${measured}); whiskers: 95 % intervals; `,
    "filled points are Pareto-efficient. Circles: these calls, at the place the frontier gives their λ; ",
    "area is their number. Their own accuracy is not known.",
  ];
  const width = Math.max(box.clientWidth, 280),
    height = Math.min(Math.max(width * 0.45, 240), 360);
  const plot = frontierPlot(plane(width, height), groups, mean(N.output, rows));
  box.replaceChildren(el("p", { class: "note" }, note.join("")), plot, frontierTable(groups));
}

/** Where tokens and accuracies lie on a drawing of this size, in pixels. */
function plane(width, height) {
  const left = 46,
    right = width - 18,
    top = 14,
    bottom = height - 40;
  const across = ticks(
    largest(DATA.frontier.rows, (row) => row.tokens, 1),
    width < 500 ? 4 : 8,
  );
  const most = across[across.length - 1];
  const x = (tokens) => left + (tokens / most) * (right - left);
  const y = (accuracy) => bottom - accuracy * (bottom - top);
  return { width, height, left, right, top, bottom, across, most, x, y };
}

function frontierPlot(at, groups, took) {
  const points = DATA.frontier.rows;
  const line = points.map((p) => `${at.x(p.tokens)},${at.y(p.accuracy)}`).join(" ");
  const label = "Accuracy against output tokens; the same numbers follow as a table";
  const size = { width: at.width, height: at.height, viewBox: `0 0 ${at.width} ${at.height}` };
  return svg(
    "svg",
    { ...size, role: "img", "aria-label": label },
    gridLines(at),
    callCircles(at, groups),
    svg("polyline", { class: "line", points: line }),
    points.map((point) => measuredPoint(at, point)),
    took <= at.most ? meanMark(at, took) : null,
    text(at.x(points[0].tokens) + 28, at.y(points[0].accuracy) + 16, `λ = ${lambda(points[0].lambda)}`),
    lastLabel(at, points[points.length - 1]),
  );
}

const text = (x, y, words, attributes = {}) => svg("text", { x, y, ...attributes }, words);
const END = { "text-anchor": "end" };
const lastLabel = (at, point) =>
  text(at.x(point.tokens) + 6, at.y(point.accuracy) + 38, `λ = ${lambda(point.lambda)}`, END);

function gridLines(at) {
  const upright = at.across.map((tokens) => [
    svg("line", { x1: at.x(tokens), x2: at.x(tokens), y1: at.bottom, y2: at.top }),
    text(at.x(tokens), at.bottom + 18, whole(tokens), { "text-anchor": "middle" }),
  ]);
  const level = [0, 0.25, 0.5, 0.75, 1].map((accuracy) => [
    svg("line", { x1: at.left, x2: at.right, y1: at.y(accuracy), y2: at.y(accuracy) }),
    text(at.left - 8, at.y(accuracy) + 4, `${100 * accuracy} %`, END),
  ]);
  const name = text(at.right, at.height - 5, "mean output tokens", END);
  return svg("g", { class: "grid" }, upright.flat(), level.flat(), name);
}

/** A circle for each λ that calls used, its area their number. */
function callCircles(at, groups) {
  const most = largest(groups, (group) => group.members.length, 1);
  return groups.map(({ key, members }) => {
    const place = onFrontier(key),
      r = Math.max(22 * Math.sqrt(members.length / most), 4);
    const spot = { cx: at.x(place.tokens), cy: at.y(place.accuracy), r };
    const title = svg("title", {}, `λ ${lambda(key)}: ${plural(members.length, "call")}`);
    return svg("circle", { class: "used", fill: colour(key), ...spot }, title);
  });
}

function measuredPoint(at, point) {
  const { accuracy, accuracy_ci: ci } = point,
    x = at.x(point.tokens);
  const ends = { y1: at.y(Math.min(accuracy + ci, 1)), y2: at.y(Math.max(accuracy - ci, 0)) };
  const title = `λ ${lambda(point.lambda)}: ${percent(accuracy)} ± ${percent(ci)}, ${tenth(point.tokens)} tokens`;
  const spot = { cx: x, cy: at.y(accuracy), r: 3.5, class: point.efficient ? "dot" : "dot beaten" };
  return svg(
    "g",
    {},
    svg("line", { class: "whisker", x1: x, x2: x, ...ends }),
    svg("circle", spot, svg("title", {}, title)),
  );
}

/** The calls' own mean of output tokens, which is known, unlike their accuracy. */
function meanMark(at, took) {
  const x = at.x(took),
    late = took > 0.6 * at.most;
  return svg(
    "g",
    {},
    svg("line", { class: "took", x1: x, x2: x, y1: at.bottom, y2: at.top }),
    text(x + (late ? -6 : 6), at.bottom - 8, `these calls' mean: ${tenth(took)}`, {
      class: "took",
      ...(late ? END : {}),
    }),
  );
}

function frontierTable(groups) {
  const columns = [
    ["λ", ""],
    ["Calls", "num"],
    ["Their mean output", "num"],
    ["Frontier's mean output", "num"],
    ["Frontier's accuracy", "num"],
  ];
  const table = simpleTable(
    "The frontier and the calls by λ",
    columns,
    groups.map(({ key, members }) => {
      const place = onFrontier(key);
      return [
        chip(key),
        whole(members.length),
        tenth(mean(N.output, members)),
        tenth(place.tokens),
        percent(place.accuracy),
      ];
    }),
  );
  return el("details", {}, el("summary", {}, "As a table"), table);
}
