// The page: filters in, everything drawn from the rows they leave.

const form = $("filters");

function readFilters() {
  const text = (name) => form.elements[name].value;
  const bound = (name, otherwise) =>
    text(name) === "" || Number.isNaN(Number(text(name))) ? otherwise : Number(text(name));
  return {
    text: text("text"),
    run: text("run").trim(),
    tool: text("tool"),
    node: text("node"),
    from: bound("from", 0),
    to: bound("to", 1),
  };
}

/** Set some filters, as if typed. */
function setFilters(values) {
  for (const [name, text] of Object.entries(values)) form.elements[name].value = text;
  draw();
  $("matches").scrollIntoView({ block: "nearest" });
}

function draw() {
  const rows = select(readFilters()),
    all = rows.length === COUNT;
  $("matches").textContent = all ? plural(COUNT, "call") : `${whole(rows.length)} of ${plural(COUNT, "call")}`;
  $("found").hidden = rows.length === 0;
  $("none").hidden = rows.length > 0;
  if (rows.length === 0) return drawNothing();
  drawTotals(rows);
  drawRuns(gatherRuns(rows));
  drawAllGroups(rows);
  drawHistogram(rows);
  drawTops(rows);
  drawFrontier(rows);
  drawCalls(rows);
  return null;
}

function drawNothing() {
  const clear = button("Clear the filters", () => {
    form.reset();
  });
  const filtered = [el("h2", {}, "No call passes these filters"), clear];
  const never = [
    el("h2", {}, "No calls on record yet"),
    el(
      "p",
      {},
      "This page fills once a model call has been made: run ",
      el("code", {}, "dami demo"),
      ", or your own agent with ",
      el("code", {}, "ChatDAMI"),
      ", then ",
      el("code", {}, "dami report"),
      " again.",
    ),
  ];
  $("none").replaceChildren(...(COUNT ? filtered : never));
}

function offer(select, names) {
  select.append(...names.map((name) => el("option", { value: name }, name)));
}

function start() {
  offer(form.elements.tool, byFrequency(W.tool, words("tools_digested"), words("tools_called")));
  offer(form.elements.node, byFrequency(W.node));
  $("runs").append(
    ...[...new Set(W.run.codes.slice(-5000))]
      .reverse()
      .slice(0, 100)
      .map((code) => el("option", { value: W.run.values[code] })),
  );
  let waiting = 0;
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(draw, 120);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    draw();
  });
  form.addEventListener("reset", () => setTimeout(draw));
  $("run-order").addEventListener("change", (event) => {
    Object.assign(view, { order: event.target.value, page: 0 });
    draw();
  });
  $("run-scale").addEventListener("change", (event) => {
    view.scale = event.target.value;
    draw();
  });
  $("detail").addEventListener("click", (event) => {
    if (event.target === event.currentTarget) event.target.close();
  });
  form.hidden = COUNT === 0;
  if (COUNT) {
    const last = DATA.epoch + largest(N.start, (t) => t, 0);
    $("about").append(` · ${MINUTE.format(DATA.epoch)} to ${MINUTE.format(last)}`);
  }
  const texts = {
    included: "This page contains the prompts, thoughts and answers of its calls: think before you pass it on.",
    "left out": "Prompts, thoughts and answers are on record, but not in this page; dami report --text puts them in.",
    "not kept": "Prompts, thoughts and answers are not on record, and so not in this page.",
  };
  $("texts").textContent = texts[DATA.text];
  $("texts").className = DATA.text === "included" ? "bad" : "quiet";
  $("foot").textContent =
    `Made ${MINUTE.format(DATA.made_at)} by dami report. Times are local. ` +
    (DATA.skipped ? `${plural(DATA.skipped, "damaged row")} of the ledger could not be read. ` : "") +
    "Nothing on this page comes from a network or goes to one.";
}

function themeChanged() {
  $("theme").textContent = theme() === "dark" ? "Light theme" : "Dark theme";
  draw();
}

$("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = theme() === "dark" ? "light" : "dark";
  themeChanged();
});
prefersDark.addEventListener("change", themeChanged);
start();
themeChanged();
let drawnWidth = innerWidth;
addEventListener("resize", () => {
  if (COUNT && innerWidth !== drawnWidth && !$("found").hidden) drawFrontier(select(readFilters()));
  drawnWidth = innerWidth;
});
document.documentElement.dataset.drawn = String(Math.round(performance.now())); // milliseconds from the start
