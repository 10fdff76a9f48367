// Which rows the filters leave.

/** Texts of all columns that hold text, lower case, once. */
const haystacks = (() => {
  let built = null;
  return () => {
    if (built) return built;
    built = [];
    for (const spec of Object.values(DATA.columns)) {
      const kept = spec.values || spec.list || ("all" in spec ? [spec.all] : []);
      if (kept.some((entry) => typeof entry === "string" || Array.isArray(entry))) {
        const texts = kept.map((entry) => (entry === null ? "" : plain(entry).toLowerCase()));
        built.push({ texts, codes: spec.codes || null, all: "all" in spec });
      }
    }
    return built;
  };
})();

/** Rows (1 or 0 each) with `term` in any of their texts. */
function matching(term) {
  const hit = new Uint8Array(COUNT);
  for (const { texts, codes, all } of haystacks()) {
    const has = texts.map((text) => text.includes(term));
    if (!has.includes(true)) continue;
    if (all) return hit.fill(1);
    for (let i = 0; i < COUNT; i++) if (has[codes ? codes[i] : i]) hit[i] = 1;
  }
  return hit;
}

/** Every tool name a row may be found by: charged to, read, called. */
function toolsOf(row) {
  return [
    W.tool.values[W.tool.codes[row]],
    ...(value("tools_digested", row) || []),
    ...(value("tools_called", row) || []),
  ];
}

/** Indices of the rows that pass `filters`: {text, run, tool, node, from, to}. */
function select(filters) {
  const terms = filters.text.toLowerCase().split(/\s+/).filter(Boolean).map(matching);
  const runs = filters.run && W.run.values.map((run) => run.toLowerCase().includes(filters.run.toLowerCase()));
  const node = filters.node ? W.node.values.indexOf(filters.node) : null;
  const anyLambda = filters.from <= 0 && filters.to >= 1;
  const rows = new Int32Array(COUNT);
  let count = 0;
  for (let i = 0; i < COUNT; i++) {
    if (runs && !runs[W.run.codes[i]]) continue;
    if (node !== null && W.node.codes[i] !== node) continue;
    if (!anyLambda && !(N.intensity[i] >= filters.from - 1e-9 && N.intensity[i] <= filters.to + 1e-9)) continue;
    if (!terms.every((hit) => hit[i])) continue;
    if (filters.tool && !toolsOf(i).includes(filters.tool)) continue;
    rows[count++] = i;
  }
  return rows.subarray(0, count);
}

/** Names in some columns (a name or a list of names per row) by how often they occur, most frequent first. */
function byFrequency(...columns) {
  const counts = new Map();
  for (const { values, codes } of columns) {
    const times = new Float64Array(values.length);
    for (let i = 0; i < COUNT; i++) times[codes[i]] += 1;
    values.forEach((names, code) => {
      for (const name of names === null ? [] : [names].flat()) counts.set(name, (counts.get(name) || 0) + times[code]);
    });
  }
  return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([name]) => name);
}
