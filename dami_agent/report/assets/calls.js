// The table of all calls. Only the rows in sight are in the document; one tab stop, arrow keys move.

const HIGH = 34; // pixels of a row
const AROUND = 8; // rows kept above and below what is in sight

const CALL_COLUMNS = [
  ["Started", "", 166, (i) => N.start[i], momentOf],
  ["Node", "", 110, (i) => value("node", i) || "", (i) => value("node", i) || ""],
  ["Read → called", "", 170, readAndCalled, readAndCalled],
  ["Tool", "", 110, (i) => W.tool.values[W.tool.codes[i]], (i) => W.tool.values[W.tool.codes[i]]],
  ["λ", "", 74, (i) => (Number.isNaN(N.intensity[i]) ? -1 : N.intensity[i]), (i) => chip(N.intensity[i])],
  ["Prompt", "num", 82, (i) => N.prompt[i], (i) => whole(N.prompt[i])],
  ...(HAS_PROBES ? [["Probe", "num", 74, (i) => N.probe[i], (i) => whole(N.probe[i])]] : []),
  ["Reasoning", "num", 98, (i) => N.reasoning[i], (i) => whole(N.reasoning[i])],
  ["Answer", "num", 80, (i) => N.answer[i], (i) => whole(N.answer[i])],
  ["Time", "num", 96, (i) => N.seconds[i], (i) => seconds(N.seconds[i])],
  ...(HAS_MONEY ? [["Money", "num", 110, (i) => (Number.isNaN(N.money[i]) ? -1 : N.money[i]), (i) => money([i])]] : []),
  ["End", "", 120, ending, (i) => el("span", { class: failed(i) ? "bad" : "" }, ending(i))],
  ["Why", "why", 340, (i) => value("error", i) || value("reason", i) || "", (i) => value("error", i) || value("reason", i) || ""],
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
    const open = button(shown, () => { current = at; showDetail(i); }, { class: "link", tabindex: at === current ? "0" : "-1", "data-at": at });
    return el("th", { scope: "row" }, open);
  });
  return el("tr", { "aria-rowindex": at + 2, class: at % 2 ? "odd" : "" }, cells);
}

function drawCalls(rows) {
  sortCalls(rows);
  const body = el("tbody"), heads = CALL_COLUMNS.map(([name, kind], at) => {
    const sorted = at === sorting.column, arrow = sorted ? (sorting.down ? " ↓" : " ↑") : "";
    const sort = () => {
      Object.assign(sorting, { column: at, down: sorted ? !sorting.down : kind === "num" || at === 0 });
      drawCalls(rows);
      $("calls").querySelectorAll("thead button")[at].focus();
    };
    return el("th", { scope: "col", class: kind, "aria-sort": sorted ? (sorting.down ? "descending" : "ascending") : "none" }, button(name + arrow, sort, { class: "sort" }));
  });
  const widths = el("colgroup", {}, CALL_COLUMNS.map(([, , wide]) => el("col", { style: { width: `${wide}px` } })));
  const table = el("table", { "aria-label": "All calls", "aria-rowcount": rows.length + 1, style: { width: `${CALL_COLUMNS.reduce((all, column) => all + column[2], 0)}px` } },
    widths, el("thead", {}, el("tr", { "aria-rowindex": 1 }, heads)), body);
  const scroller = el("div", { class: "wide-table calls", style: { height: `${Math.min(rows.length, 14) * HIGH + HIGH + 18}px` } }, table);
  $("calls").replaceChildren(scroller);
  let shown = "";
  const draw = () => {
    const from = Math.max(Math.floor(scroller.scrollTop / HIGH) - AROUND, 0);
    const to = Math.min(Math.ceil((scroller.scrollTop + scroller.clientHeight) / HIGH) + AROUND, callRows.length);
    if (shown === `${from} ${to}`) return;
    shown = `${from} ${to}`;
    const focused = body.contains(document.activeElement);
    if (!focused && (current < from || current >= to)) current = Math.min(from + AROUND, to - 1);
    const space = (count) => el("tr", { class: "space", "aria-hidden": "true" }, el("td", { colspan: CALL_COLUMNS.length, style: { height: `${count * HIGH}px` } }));
    body.replaceChildren(space(from), ...Array.from({ length: to - from }, (_, k) => callLine(from + k)), space(callRows.length - to));
    if (focused) focusCurrent();
  };
  const focusCurrent = () => {
    const target = body.querySelector(`[data-at="${current}"]`);
    if (target) target.focus({ preventScroll: true });
  };
  const move = (to) => {
    const before = body.querySelector(`[data-at="${current}"]`);
    current = Math.min(Math.max(to, 0), callRows.length - 1);
    if (before) before.tabIndex = -1;
    const top = current * HIGH, bottom = top + 2 * HIGH; // the heading covers one row
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (bottom > scroller.scrollTop + scroller.clientHeight - 18) scroller.scrollTop = bottom - scroller.clientHeight + 18;
    draw();
    const now = body.querySelector(`[data-at="${current}"]`);
    if (now) now.tabIndex = 0;
    focusCurrent();
  };
  body.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: current + 1, ArrowUp: current - 1, PageDown: current + 12, PageUp: current - 12, Home: 0, End: callRows.length - 1 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    move(steps[event.key]);
  });
  scroller.addEventListener("scroll", draw, { passive: true });
  draw();
}
