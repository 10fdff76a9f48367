// The table of all calls. Only the rows in sight are in the document; one tab stop, arrow keys move.

const HIGH = 34; // pixels of a row
const IN_SIGHT = 14; // rows in sight at most
const BAR = 18; // pixels for a scroll bar
const AROUND = 8; // rows kept above and below what is in sight

const CALL_COLUMNS = [
  ["Started", "", 166, (i) => N.start[i], momentOf],
  ["Node", "", 110, (i) => value("node", i) || "", (i) => value("node", i) || ""],
  ["Read → called", "", 170, readAndCalled, readAndCalled],
  ["Tool", "", 110, (i) => W.tool.values[W.tool.codes[i]], (i) => W.tool.values[W.tool.codes[i]]],
  ["λ", "", 74, (i) => (Number.isNaN(N.intensity[i]) ? -1 : N.intensity[i]), (i) => chip(N.intensity[i])],
  ["Prompt", "num", 82, (i) => N.prompt[i], (i) => whole(N.prompt[i])],
  ...(HAS_DISCARDED ? [["Discarded", "num", 98, (i) => N.discarded[i], (i) => whole(N.discarded[i])]] : []),
  ["Reasoning", "num", 98, (i) => N.reasoning[i], (i) => whole(N.reasoning[i])],
  ["Answer", "num", 80, (i) => N.answer[i], (i) => whole(N.answer[i])],
  ["Time", "num", 96, (i) => N.seconds[i], (i) => seconds(N.seconds[i])],
  ...(HAS_COST ? [["Cost", "num", 110, (i) => (Number.isNaN(N.cost[i]) ? -1 : N.cost[i]), (i) => costText([i])]] : []),
  ["End", "", 120, ending, (i) => el("span", { class: failed(i) ? "bad" : "" }, ending(i))],
  ["Why", "why", 340, whyOf, whyOf],
];

const sorting = { column: 0, down: true };
let callRows = [];
let current = 0; // index into callRows of the one row that Tab reaches

/** Sort by the chosen column; equal ones stay oldest first, and so are `rows`. */
function sortCalls(rows) {
  const sign = sorting.down ? -1 : 1;
  current = 0;
  if (sorting.column === 0) {
    callRows = sorting.down ? rows.slice().reverse() : rows;
    return;
  }
  const keys = new Array(COUNT);
  for (const i of rows) keys[i] = CALL_COLUMNS[sorting.column][3](i);
  callRows = rows.slice().sort((a, b) => (keys[a] < keys[b] ? -sign : keys[a] > keys[b] ? sign : a - b));
}

function callLine(at) {
  const i = callRows[at];
  const cells = CALL_COLUMNS.map(([, kind, , , show], column) => {
    const shown = show(i);
    if (column) return el("td", { class: kind, title: typeof shown === "string" ? shown : null }, shown);
    const open = button(
      shown,
      () => {
        current = at;
        showDetail(i);
      },
      { class: "link", tabindex: at === current ? "0" : "-1", "data-at": at },
    );
    return el("th", { scope: "row" }, open);
  });
  return el("tr", { "aria-rowindex": at + 2, class: at % 2 ? "odd" : "" }, cells);
}

/** A column's heading: a button that sorts by it, the other way round when it already does. */
function callHead([name, kind], at, rows) {
  const sorted = at === sorting.column,
    arrow = sorted ? (sorting.down ? " ↓" : " ↑") : "";
  const sort = () => {
    Object.assign(sorting, { column: at, down: sorted ? !sorting.down : kind === "num" || at === 0 });
    drawCalls(rows);
    $("calls").querySelectorAll("thead button")[at].focus();
  };
  const order = sorted ? (sorting.down ? "descending" : "ascending") : "none";
  return el("th", { scope: "col", class: kind, "aria-sort": order }, button(name + arrow, sort, { class: "sort" }));
}

function drawCalls(rows) {
  sortCalls(rows);
  const body = el("tbody"),
    widths = CALL_COLUMNS.map((column) => column[2]);
  const heads = CALL_COLUMNS.map((column, at) => callHead(column, at, rows));
  const table = el(
    "table",
    {
      "aria-label": "All calls",
      "aria-rowcount": rows.length + 1,
      style: { width: `${widths.reduce((a, b) => a + b)}px` },
    },
    el(
      "colgroup",
      {},
      widths.map((width) => el("col", { style: { width: `${width}px` } })),
    ),
    el("thead", {}, el("tr", { "aria-rowindex": 1 }, heads)),
    body,
  );
  const height = `${Math.min(rows.length, IN_SIGHT) * HIGH + HIGH + BAR}px`;
  const scroller = el("div", { class: "wide-table calls", style: { height } }, table);
  $("calls").replaceChildren(scroller);
  scrollRows(scroller, body);
}

/** Keep the rows in sight in `body`, and the focus on the current one, while the reader scrolls or presses keys. */
function scrollRows(scroller, body) {
  const opener = () => body.querySelector(`[data-at="${current}"]`);
  const space = (count) => {
    const cell = el("td", { colspan: CALL_COLUMNS.length, style: { height: `${count * HIGH}px` } });
    return el("tr", { class: "space", "aria-hidden": "true" }, cell);
  };
  let shown = "";
  const draw = (wanted = null) => {
    const from = Math.max(Math.floor(scroller.scrollTop / HIGH) - AROUND, 0);
    const to = Math.min(Math.ceil((scroller.scrollTop + scroller.clientHeight) / HIGH) + AROUND, callRows.length);
    if (wanted === null && shown === `${from} ${to}`) return;
    shown = `${from} ${to}`;
    current = Math.min(Math.max(wanted ?? current, from), to - 1);
    const focused = body.contains(document.activeElement);
    const lines = Array.from({ length: to - from }, (_, k) => callLine(from + k));
    body.replaceChildren(space(from), ...lines, space(callRows.length - to));
    if (focused) opener().focus({ preventScroll: true });
  };
  body.addEventListener("keydown", (event) => {
    const last = callRows.length - 1,
      [up, down] = [current - 1, current + 1];
    const page = { PageDown: current + IN_SIGHT - 2, PageUp: current - IN_SIGHT + 2 };
    const goal = { ArrowDown: down, ArrowUp: up, Home: 0, End: last, ...page }[event.key];
    if (goal === undefined) return;
    event.preventDefault();
    const wanted = Math.min(Math.max(goal, 0), last),
      top = wanted * HIGH;
    const lowest = top + 2 * HIGH + BAR - scroller.clientHeight; // the heading covers one row, a scroll bar some more
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (lowest > scroller.scrollTop) scroller.scrollTop = lowest;
    draw(wanted);
  });
  scroller.addEventListener("scroll", () => draw(), { passive: true });
  draw();
}
