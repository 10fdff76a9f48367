// Everything on record about one call.

const SECTIONS = [
  [
    "How deep, and why",
    [
      "intensity",
      "reason",
      "rule",
      "considered",
      "intensity_low",
      "intensity_high",
      "intensity_requested",
      "intensity_estimated",
      "intensity_bounded",
      "intensity_modules",
      "intensity_requested_modules",
      "intensity_bounded_modules",
      "intensity_answer_modules",
      "intensity_snapped",
      "intensity_answer",
      "intensity_prompt",
      "asked",
      "asked_by",
      "policy",
      "estimator",
      "features",
      "template",
      "charged_to",
    ],
  ],
  [
    "Tokens and cost",
    [
      "prompt_tokens",
      "cached_tokens",
      "reread_tokens",
      "reasoning_tokens",
      "answer_tokens",
      "probe_tokens",
      "discarded_tokens",
      "output_tokens",
      "saved",
      "scored_tokens",
      "cost",
      "currency",
      "limits",
    ],
  ],
  [
    "Time",
    [
      "seconds",
      "queue_seconds",
      "estimate_seconds",
      "switch_seconds",
      "prefill_seconds",
      "first_token_seconds",
      "decode_seconds",
    ],
  ],
  [
    "How it ended",
    [
      "finish_reason",
      "error_type",
      "error",
      "accepted",
      "thought_closed_by",
      "stop",
      "invalid_tool_calls",
      "tools_disabled",
    ],
  ],
  [
    "Where in the run",
    [
      "call_id",
      "attempt",
      "ordinal",
      "step",
      "node",
      "run",
      "names",
      "user",
      "run_id",
      "parent_run_id",
      "thread_id",
      "tags",
      "messages",
      "tools_bound",
      "tools_digested",
      "tools_called",
      "metadata",
    ],
  ],
  ["Text", ["prompt_text", "reasoning_text", "answer_text"]],
];

const empty = (thing) => thing === null || thing === "" || (typeof thing === "object" && !Object.keys(thing).length);

function shownAs(name, thing) {
  if (name === "attempt") return `${thing + 1}`;
  if (name.endsWith("seconds") && typeof thing === "number") return seconds(thing);
  if (name.startsWith("intensity") && typeof thing === "number") return chip(thing);
  if (name === "saved") return `${tenth(thing)} output tokens, expected`;
  if (name === "cost") return amountOf(thing);
  return name.endsWith("tokens") ? whole(thing) : plain(thing);
}

/** A column's name for people: "λ low", "queue", "tools bound". */
const title = (name) =>
  name
    .replace("intensity", "λ")
    .replace(/^seconds$/, "in all")
    .replace(/_seconds$/, "")
    .replaceAll("_", " ");

function showDetail(row) {
  const dialog = $("detail"),
    listed = new Set(SECTIONS.flatMap(([, names]) => names)),
    back = document.activeElement;
  const others = Object.keys(DATA.columns).filter(
    (name) => !listed.has(name) && !["started_at", "tool", "run_name", "root_run_name", "trace_names"].includes(name),
  );
  const sections = [...SECTIONS, ["What ran it", others]].map(([heading, names]) => {
    const pairs = names.map((name) => [name, value(name, row)]).filter(([, thing]) => !empty(thing));
    if (!pairs.length) return null;
    return el(
      "section",
      {},
      el("h3", {}, heading),
      el(
        "dl",
        {},
        pairs.map(([name, thing]) =>
          el("div", {}, el("dt", {}, title(name)), el("dd", { "data-name": name }, shownAs(name, thing))),
        ),
      ),
    );
  });
  const close = button("Close", () => dialog.close(), { class: "close" });
  dialog.replaceChildren(
    el("div", { class: "head" }, el("h2", { id: "h-detail" }, `Call of ${momentOf(row)}`), close),
    bar(row, "tokens", lengthOf(row, "tokens") || 1),
    el("div", { class: "sections" }, sections),
    el("p", { class: "note" }, "In a terminal: ", el("code", {}, `dami explain ${value("call_id", row)}`)),
  );
  showTip(null);
  dialog.onclose = () => {
    // The event comes late: focus that has moved on by then is not taken back.
    if (document.activeElement === document.body && back && back.isConnected) back.focus();
  };
  dialog.showModal();
}
