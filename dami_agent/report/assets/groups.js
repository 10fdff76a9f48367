// Tokens and cost by tool, node, step, name, tag, user and day; the slowest and the costliest steps.

const FIRST = 8; // groups shown before "Show all"
const TOP = 8;
const expanded = new Set();

/** Groups of rows with an equal key, with their output tokens. */
function groupBy(rows, keyOf) {
  const groups = new Map();
  for (const i of rows) {
    const key = keyOf(i),
      group = groups.get(key);
    if (group) group.push(i);
    else groups.set(key, [i]);
  }
  return Array.from(groups, ([key, members]) => ({ key, members, output: sum(N.output, members) }));
}

/** A table of groups in box `id`; `name(key)` is text, or a button that filters. */
function drawGroups(id, heading, groups, name) {
  const most = largest(groups, (g) => g.output, 1);
  const columns = [
    [heading, ""],
    ["Calls", "num"],
    ["Mean λ", ""],
    ["Output tokens", "graph"],
    ["Reasoning", "num"],
    ["Answer", "num"],
    ...(HAS_DISCARDED ? [["Discarded", "num"]] : []),
    ["Prompt", "num"],
    ["Time", "num"],
    ...(HAS_COST ? [["Cost", "num"]] : []),
  ];
  const width = (part) => `${((100 * part) / most).toFixed(2)}%`;
  const line = ({ key, members, output }) => {
    const [thought, discarded, answer] = [N.reasoning, N.discarded, N.answer].map((column) => sum(column, members));
    const depth = mean(N.intensity, members);
    const graph = el(
      "div",
      { class: "bar", "aria-hidden": "true", style: { "--c": colour(depth) } },
      el("i", { class: "thought", style: { width: width(thought + discarded) } }),
      el("i", { class: "answer", style: { width: width(answer) } }),
    );
    return [
      name(key),
      whole(members.length),
      chip(depth, 2),
      el("div", { class: "barred" }, graph, el("span", { class: "num" }, whole(output))),
      whole(thought),
      whole(answer),
      ...(HAS_DISCARDED ? [whole(discarded)] : []),
      whole(sum(N.prompt, members)),
      seconds(sum(N.seconds, members)),
      ...(HAS_COST ? [costText(members)] : []),
    ];
  };
  const shown = expanded.has(id) ? groups : groups.slice(0, FIRST);
  const more =
    groups.length > FIRST
      ? [
          button(expanded.has(id) ? `Show ${FIRST}` : `Show all ${whole(groups.length)}`, () => {
            expanded[expanded.has(id) ? "delete" : "add"](id);
            drawGroups(id, heading, groups, name);
            $(id).lastElementChild.focus();
          }),
        ]
      : [];
  $(id).replaceChildren(simpleTable(`By ${heading.toLowerCase()}`, columns, shown.map(line)), ...more);
}

/** Groups of rows under each of the keys that `keysOf` gives for a row; one row may be in several. */
function groupEach(rows, keysOf) {
  const groups = new Map();
  for (const i of rows)
    for (const key of new Set(keysOf(i))) {
      if (groups.has(key)) groups.get(key).push(i);
      else groups.set(key, [i]);
    }
  return Array.from(groups, ([key, members]) => ({ key, members, output: sum(N.output, members) }));
}

/** `names` of a row, or the one group of those that have none. */
const orNone = (names) => (names && names.length ? names : [null]);

const groupWords = (rows, column) =>
  groupBy(rows, (i) => column.codes[i]).map((group) => ({ ...group, key: column.values[group.key] }));

function drawAllGroups(rows) {
  const costliest = (a, b) => b.output - a.output;
  const filterBy = (field) => (key) =>
    key === null
      ? "none"
      : button(key, () => setFilters({ [field]: key }), { class: "link", "aria-label": `${key}: only this ${field}` });
  drawGroups("by-tool", "Tool", groupWords(rows, W.tool).sort(costliest), filterBy("tool"));
  drawGroups(
    "by-called",
    "Tool called",
    groupEach(rows, (i) => {
      const called = value("tools_called", i);
      return called && called.length ? called : ["answer"];
    }).sort(costliest),
    filterBy("tool"),
  );
  drawGroups("by-node", "Node", groupWords(rows, W.node).sort(costliest), filterBy("node"));
  drawGroups(
    "by-step",
    "Step",
    groupBy(rows, (i) => N.ordinal[i]).sort((a, b) => a.key - b.key),
    (key) => whole(key),
  );
  drawOptional("by-name", "Name", groupEach(rows, (i) => orNone(value("names", i))).sort(costliest));
  drawOptional("by-tag", "Tag", groupEach(rows, (i) => orNone(value("tags", i))).sort(costliest));
  drawOptional("by-user", "User", groupWords(rows, W.user).sort(costliest));
  const days = groupBy(rows, dayOf).sort((a, b) => (a.key < b.key ? -1 : 1));
  drawGroups("by-day", "Day", days, (key) => key);
}

/** Groups by something that the user may never have given: then their card is not shown. */
function drawOptional(id, heading, groups) {
  const known = groups.some(({ key }) => key !== null);
  $(id).closest("section").hidden = !known;
  const find = (key) => button(key, () => setFilters({ text: key }), { class: "link", "aria-label": `${key}: find it` });
  if (known) drawGroups(id, heading, groups, (key) => (key === null ? "none" : find(key)));
}

/** The rows with the most of something, most first. */
function top(rows, measure) {
  const best = [];
  for (const i of rows) {
    if (best.length === TOP && !(measure(i) > measure(best[TOP - 1]))) continue;
    best.push(i);
    best.sort((a, b) => measure(b) - measure(a) || a - b);
    best.length = Math.min(best.length, TOP);
  }
  return best;
}

function drawTops(rows) {
  const line = (shown) => (i) => [
    button(momentOf(i), () => showDetail(i), { class: "link", "aria-label": `Call of ${momentOf(i)}: all about it` }),
    shown(i),
    chip(N.intensity[i]),
    whole(N.output[i]),
    value("node", i) || "",
    readAndCalled(i),
  ];
  const columns = (heading) => [
    ["Started", ""],
    [heading, "num"],
    ["λ", ""],
    ["Output", "num"],
    ["Node", ""],
    ["Read → called", ""],
  ];
  const slowest = top(rows, (i) => N.seconds[i]);
  $("slowest").replaceChildren(
    simpleTable("Slowest steps", columns("Time"), slowest.map(line((i) => seconds(N.seconds[i])))),
  );
  const priced = HAS_COST && CURRENCIES.length < 2; // amounts in two currencies have no order
  const cost = priced ? (i) => (Number.isNaN(N.cost[i]) ? -1 : N.cost[i]) : (i) => N.output[i] + N.prompt[i];
  const text = priced ? (i) => costText([i]) : (i) => whole(N.output[i] + N.prompt[i]);
  $("costliest").replaceChildren(
    simpleTable("Costliest steps", columns(priced ? "Cost" : "Tokens"), top(rows, cost).map(line(text))),
  );
}
