// How many calls used which λ.

const BINS = 20; // of width 0.05, around 0, 0.05, …, 1

function drawHistogram(rows) {
  const counts = new Array(BINS + 1).fill(0);
  let without = 0;
  for (const i of rows)
    Number.isNaN(N.intensity[i]) ? (without += 1) : (counts[Math.round(N.intensity[i] * BINS)] += 1);
  const most = Math.max(...counts, 1);
  const bars = counts.map((count, at) => {
    const middle = at / BINS,
      from = Math.max(middle - 0.5 / BINS, 0),
      to = Math.min(middle + 0.5 / BINS, 1);
    const label = `λ about ${lambda(middle)}: ${plural(count, "call")}`;
    const fill = el("i", {
      style: { background: colour(middle), height: count ? `max(3px, ${(100 * count) / most}%)` : "0" },
    });
    return button(fill, () => setFilters({ from: lambda3(from), to: lambda3(to) }), {
      class: "column",
      title: label,
      "aria-label": label,
      disabled: count === 0,
    });
  });
  const axis = [0, 0.25, 0.5, 0.75, 1].map((at) => el("span", {}, lambda(at)));
  const failures = without ? ` ${plural(without, "call")} without λ: failed before one was chosen.` : "";
  const note = `Tallest bar: ${plural(most, "call")}.${failures}`;
  $("histogram").replaceChildren(
    el("div", { class: "columns", role: "group", "aria-label": "Calls by λ" }, bars),
    el("div", { class: "axis", "aria-hidden": "true" }, axis),
    el("p", { class: "note" }, note),
  );
}

const lambda3 = (number) => String(Math.round(number * 1000) / 1000);
