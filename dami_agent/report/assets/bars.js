// A step as a bar: prompt, reasoning, answer; coloured by λ.

/** Lengths of a step's three parts, in tokens or seconds; decoding time is divided by tokens. */
function partsOf(row, scale) {
  const thought = N.discarded[row] + N.reasoning[row],
    answer = N.answer[row];
  if (scale === "tokens") return [N.prompt[row], thought, answer];
  if (scale === "output") return [0, thought, answer];
  const share = thought + answer ? thought / (thought + answer) : 0;
  const decode = Math.min(N.decode[row], N.seconds[row]);
  return [N.seconds[row] - decode, decode * share, decode * (1 - share)];
}

/** Colours of a step's prompt, thought and answer; the answer may have a λ of its own. */
function tintsOf(row) {
  const tint = colour(N.intensity[row]);
  return [tint, tint, Number.isNaN(N.last[row]) ? tint : colour(N.last[row])];
}

const lengthOf = (row, scale) => partsOf(row, scale).reduce((a, b) => a + b, 0);

/** Diagonal stripes on a canvas, the answer's texture. */
const stripes = (() => {
  const made = new Map();
  return (context, tint, ratio) => {
    const key = `${tint} ${ratio}`;
    if (!made.has(key)) {
      const size = Math.round(5 * ratio),
        tile = el("canvas", { width: size, height: size }),
        pen = tile.getContext("2d");
      pen.fillStyle = tint;
      pen.globalAlpha = 0.4;
      pen.fillRect(0, 0, size, size);
      pen.globalAlpha = 1;
      pen.lineWidth = size * 0.38;
      pen.strokeStyle = tint;
      for (const shift of [-size, 0, size]) {
        pen.beginPath();
        pen.moveTo(shift - 1, size + 1);
        pen.lineTo(shift + size + 1, -1);
        pen.stroke();
      }
      made.set(key, tile);
    }
    return context.createPattern(made.get(key), "repeat");
  };
})();

/** Lanes for steps that overlap in time: the first lane that is free again; at most `most`. */
function lanes(rows, most) {
  const free = [];
  return rows.map((row) => {
    const start = N.start[row],
      end = start + 1000 * N.seconds[row];
    let lane = free.findIndex((until) => until <= start + 1);
    if (lane < 0) lane = Math.min(free.length, most - 1);
    free[lane] = Math.max(free[lane] || 0, end);
    return lane;
  });
}

/** Draw steps of a run onto `canvas`; `full` is what its whole width stands for. Returns [x0, x1, y0, y1, row] each. */
function drawStrip(canvas, rows, scale, full) {
  const ratio = window.devicePixelRatio || 1,
    width = canvas.clientWidth,
    height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  const lane = scale === "seconds" ? lanes(rows, 4) : rows.map(() => 0);
  const tall = Math.floor(height / (largest(lane, (at) => at, 0) + 1)); // whole pixels, so that lanes stay apart
  const red = getComputedStyle(canvas).color;
  const hits = [];
  let left = 0;
  rows.forEach((row, at) => {
    if (scale === "seconds") left = ((N.start[row] - N.start[rows[0]]) / 1000 / full) * width;
    const parts = partsOf(row, scale).map((part) => (part / full) * width);
    const length = Math.max(parts[0] + parts[1] + parts[2], 0.5),
      gap = length > 3 ? 1 : 0;
    const top = lane[at] * tall,
      tints = tintsOf(row);
    let x = left;
    const styles = [
      [0.3, tints[0]],
      [1, tints[1]],
      [1, length > 3 ? stripes(pen, tints[2], ratio) : tints[2]],
    ];
    parts.forEach((part, kind) => {
      const last = kind === 2 ? gap : 0;
      [pen.globalAlpha, pen.fillStyle] = styles[kind];
      pen.fillRect(
        x * ratio,
        top * ratio,
        Math.max(part - last, length <= 0.5 && kind === 1 ? 0.5 : 0) * ratio,
        (tall - (tall < height ? 1 : 0)) * ratio,
      );
      x += part;
    });
    pen.globalAlpha = 1;
    if (failed(row)) {
      pen.fillStyle = red;
      pen.fillRect(left * ratio, top * ratio, Math.max(length - gap, 3) * ratio, 3 * ratio);
    }
    hits.push([left, left + Math.max(length, 3), top, top + tall, row]);
    left += length;
  });
  return hits;
}

/** The same bar as elements, for a table's cell. `from` and `full` in the scale's unit. */
function bar(row, scale, full, from = 0) {
  const share = (part) => `${Math.max((100 * part) / full, 0).toFixed(3)}%`;
  const kinds = ["prompt", "thought", "answer"];
  const tints = tintsOf(row);
  const parts = partsOf(row, scale).map((part, at) =>
    el("i", { class: kinds[at], style: { width: share(part), "--c": tints[at] } }),
  );
  return el(
    "div",
    { class: failed(row) ? "bar bad" : "bar", "aria-hidden": "true" },
    el("b", { style: { width: share(from) } }),
    parts,
  );
}

function describe(row) {
  const node = value("node", row),
    [prompt, thought, answer] = partsOf(row, "tokens");
  return [
    `Step ${N.ordinal[row]}${node ? ` in ${node}` : ""}`,
    readAndCalled(row),
    `λ ${lambda(N.intensity[row])}`,
    `prompt ${whole(prompt)}, reasoning ${whole(thought)}, answer ${whole(answer)} tokens`,
    seconds(N.seconds[row]),
    whyOf(row),
  ].filter(Boolean);
}
