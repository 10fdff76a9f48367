// Runs as timelines: one strip each, which opens into its steps.

const PAGE = 12; // runs shown at a time
const OPENED = 200; // steps of an opened run shown at a time
const view = { order: "newest", scale: "tokens", page: 0, open: new Set() };

/** Runs among `rows`: {code, rows, output, seconds}; seconds from the first start to the last end. */
function gatherRuns(rows) {
  const runs = new Map();
  for (const i of rows) {
    const code = W.run.codes[i];
    if (!runs.has(code)) runs.set(code, { code, rows: [], output: 0, end: 0 });
    const run = runs.get(code);
    run.rows.push(i);
    run.output += N.output[i];
    run.end = Math.max(run.end, N.start[i] + 1000 * N.seconds[i]);
  }
  for (const run of runs.values()) {
    run.seconds = (run.end - N.start[run.rows[0]]) / 1000;
    run.steps = new Set(run.rows.map((i) => N.ordinal[i])).size;
  }
  const orders = {
    newest: (a, b) => N.start[b.rows[0]] - N.start[a.rows[0]],
    output: (a, b) => b.output - a.output,
    seconds: (a, b) => b.seconds - a.seconds,
    steps: (a, b) => b.steps - a.steps,
  };
  return [...runs.values()].sort(orders[view.order]);
}

const runLength = (run) =>
  view.scale === "seconds" ? run.seconds : run.rows.reduce((all, i) => all + lengthOf(i, view.scale), 0);
const runName = (run) => String(W.run.values[run.code]);

function drawRuns(runs) {
  const pages = Math.max(Math.ceil(runs.length / PAGE), 1);
  view.page = Math.min(view.page, pages - 1);
  const shown = runs.slice(view.page * PAGE, (view.page + 1) * PAGE);
  const full = largest(shown, runLength, 1e-9);
  $("timeline").replaceChildren(...shown.map((run) => runItem(run, full)));
  $("legend").replaceChildren(...legend(full));
  const turn = (by) => () => {
    view.page += by;
    drawRuns(runs);
    $("pager").querySelector("button:not(:disabled)").focus();
    $("h-runs").scrollIntoView({ block: "nearest" });
  };
  const first = runs.length ? view.page * PAGE + 1 : 0;
  $("pager").replaceChildren(
    button("Previous", turn(-1), { disabled: view.page === 0 }),
    el("span", {}, `${whole(first)}–${whole(first + Math.max(shown.length - 1, 0))} of ${plural(runs.length, "run")}`),
    button("Next", turn(1), { disabled: view.page === pages - 1 }),
  );
  $("pager").hidden = pages === 1;
}

function legend(full) {
  const unit =
    view.scale === "seconds" ? seconds(full) : `${whole(full)} ${view.scale === "output" ? "output tokens" : "tokens"}`;
  const names =
    view.scale === "seconds"
      ? [
          ["prompt", "before the first token"],
          ["thought", "reasoning"],
          ["answer", "answer"],
        ]
      : [
          ["prompt", "prompt"],
          ["thought", HAS_DISCARDED ? "reasoning and discarded" : "reasoning"],
          ["answer", "answer"],
        ];
  const steps = [0, 0.25, 0.5, 0.75, 1];
  return [
    el(
      "span",
      { class: "ramp" },
      "λ 0",
      el("i", { style: { background: `linear-gradient(90deg, ${steps.map(colour).join(", ")})` } }),
      "1",
    ),
    ...names
      .filter(([kind]) => view.scale !== "output" || kind !== "prompt")
      .map(([kind, text]) =>
        el("span", { class: "bar key", style: { "--c": colour(0.5) } }, el("i", { class: kind }), text),
      ),
    el("span", { class: "bar key bad", style: { "--c": colour(NaN) } }, el("i", { class: "thought" }), "failed"),
    el("span", {}, `full width: ${unit}`),
  ];
}

function runItem(run, full) {
  const { rows, code } = run,
    thread = value("thread_id", rows[0]),
    bad = count(rows, failed);
  const facts = [
    plural(run.steps, "step"),
    `λ ${lambdaRange(rows)}`,
    `${whole(run.output)} output tokens`,
    seconds(run.seconds),
  ];
  if (HAS_COST) facts.push(costText(rows));
  if (bad) facts.push(`${whole(bad)} failed`);
  const strip = el("canvas", { class: "strip", role: "img", "aria-label": facts.join(", ") });
  const steps = el("div", { class: "steps", id: `run-${code}`, hidden: true });
  const opener = button("", () => toggle(!view.open.has(code)), {
    class: "opener",
    "aria-expanded": "false",
    "aria-controls": steps.id,
  });
  opener.append(el("span", { class: "when" }, momentOf(rows[0])), el("code", {}, runName(run)));
  function toggle(open) {
    view.open[open ? "add" : "delete"](code);
    opener.setAttribute("aria-expanded", String(open));
    steps.hidden = !open;
    steps.replaceChildren(...(open ? stepsOf(run) : []));
  }
  watchStrip(strip, run, full, () => toggle(!view.open.has(code)));
  const item = el(
    "li",
    {},
    el("div", { class: "title" }, opener, thread ? el("span", { class: "quiet" }, `thread ${thread}`) : null),
    el(
      "p",
      { class: "facts" },
      facts.map((fact, at) => el("span", { class: bad && at === facts.length - 1 ? "bad" : "" }, fact)),
    ),
    strip,
    steps,
  );
  if (view.open.has(code)) toggle(true);
  return item;
}

/** Draw when the strip has a width, and again when that changes; tell about the step under the pointer. */
function watchStrip(strip, run, full, toggle) {
  let hits = [];
  new ResizeObserver(() => {
    hits = drawStrip(strip, run.rows, view.scale, full);
  }).observe(strip);
  const under = (event) => {
    const box = strip.getBoundingClientRect(),
      x = event.clientX - box.left,
      y = event.clientY - box.top;
    return hits.find(([x0, x1, y0, y1]) => x >= x0 && x < x1 && y >= y0 && y < y1);
  };
  strip.addEventListener("pointermove", (event) => {
    const hit = under(event);
    showTip(hit ? describe(hit[4]) : null, event.clientX, event.clientY);
  });
  strip.addEventListener("pointerleave", () => showTip(null));
  strip.addEventListener("click", (event) => {
    const hit = under(event);
    hit ? showDetail(hit[4]) : toggle();
  });
}

function showTip(lines, x = 0, y = 0) {
  const tip = $("tip");
  tip.hidden = lines === null;
  if (lines === null) return;
  tip.replaceChildren(...lines.map((line) => el("div", {}, line)));
  tip.style.left = `${Math.max(8, Math.min(x + 12, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${y + 18 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 8 : y + 18}px`;
}

/** A step of an opened run as cells; its bar begins at `from`, and `full` is the width of the whole axis. */
function stepCells(i, scale, full, from) {
  const attempt = value("attempt", i),
    name = `${N.ordinal[i]}${attempt > 0 ? `, attempt ${attempt + 1}` : ""}`;
  const opener = button(name, () => showDetail(i), { class: "link", "aria-label": `Step ${name}: all about it` });
  const numbers = [N.prompt[i], N.discarded[i] + N.reasoning[i], N.answer[i]].map(whole);
  const why = el("span", { class: failed(i) ? "bad" : "" }, whyOf(i));
  const tools = [value("node", i) || "", readAndCalled(i)];
  return [opener, ...tools, chip(N.intensity[i]), bar(i, scale, full, from), ...numbers, seconds(N.seconds[i]), why];
}

/** An opened run: its steps as a table, bars on one axis. */
function stepsOf(run) {
  const scale = view.scale,
    timed = scale === "seconds",
    name = { tokens: "All tokens", output: "Output tokens" }[scale];
  const full = timed ? run.seconds || 1e-9 : largest(run.rows, (i) => lengthOf(i, scale), 1e-9);
  const counts = ["Prompt", "Reasoning", "Answer", "Time"].map((heading) => [heading, "num"]);
  const facts = ["Node", "Read → called", "λ"].map((heading) => [heading, ""]);
  const columns = [["Step", "num"], ...facts, [name || "Seconds", "graph"], ...counts, ["Why", "why"]];
  const line = (i) => stepCells(i, scale, full, timed ? (N.start[i] - N.start[run.rows[0]]) / 1000 : 0);
  const box = el("div");
  const show = (shown) => {
    const table = simpleTable(`Steps of run ${runName(run)}`, columns, run.rows.slice(0, shown).map(line));
    const rest = run.rows.length - shown,
      next = `Show ${whole(Math.min(rest, OPENED))} more of ${whole(rest)}`;
    box.replaceChildren(table, ...(rest > 0 ? [button(next, () => show(shown + OPENED))] : []));
  };
  show(OPENED);
  const only = button("Only this run", () => setFilters({ run: runName(run) }));
  return [box, el("p", { class: "tools" }, only)];
}
