// Elements. Every text goes in as a text node, so that nothing from the ledger is ever markup.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, given] of Object.entries(attributes)) {
    if (given === null || given === undefined || given === false) continue;
    if (name === "on") for (const [event, handler] of Object.entries(given)) node.addEventListener(event, handler);
    else if (name === "style") for (const [key, css] of Object.entries(given)) node.style.setProperty(key, css);
    else node.setAttribute(name, given === true ? "" : given);
  }
  node.append(...children.flat().filter((child) => child !== null));
  return node;
}

const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const button = (text, onclick, attributes = {}) =>
  el("button", { type: "button", on: { click: onclick }, ...attributes }, text);

/** A small table. `columns` are [heading, class]; `rows` are arrays of cells, text or nodes, the first a heading. */
function simpleTable(label, columns, rows) {
  const head = columns.map(([text, kind]) => el("th", { scope: "col", class: kind }, text));
  const body = rows.map((cells) =>
    el(
      "tr",
      {},
      cells.map((cell, at) =>
        at === 0 ? el("th", { scope: "row", class: columns[at][1] }, cell) : el("td", { class: columns[at][1] }, cell),
      ),
    ),
  );
  const table = el("table", { "aria-label": label }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, body));
  return el("div", { class: "wide-table", tabindex: "0", role: "region", "aria-label": label }, table);
}
