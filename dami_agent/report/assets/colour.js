// λ as a colour: the deeper the thought, the further from the background. Lightness alone tells the order, so that
// it survives any colour blindness and grey print; every colour has 3:1 contrast to the panel it lies on.

const RAMPS = {
  light: ["#4f97d0", "#5d74c9", "#7a4fb5", "#86257f", "#5c0a35"],
  dark: ["#4379bd", "#8a72c9", "#c877b4", "#f09a86", "#ffe08a"],
};
const UNKNOWN = { light: "#767b85", dark: "#8b909a" }; // a call that failed before λ was chosen

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const theme = () => document.documentElement.dataset.theme || (prefersDark.matches ? "dark" : "light");

function mix(low, high, share) {
  const channel = (hex, at) => parseInt(hex.slice(at, at + 2), 16);
  const parts = [1, 3, 5].map((at) => Math.round(channel(low, at) + share * (channel(high, at) - channel(low, at))));
  return `#${parts.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

/** The colour of a λ in the theme now shown. */
function colour(intensity) {
  if (Number.isNaN(intensity)) return UNKNOWN[theme()];
  const ramp = RAMPS[theme()];
  const at = Math.min(Math.max(intensity, 0), 1) * (ramp.length - 1);
  const low = Math.min(Math.floor(at), ramp.length - 2);
  return mix(ramp[low], ramp[low + 1], at - low);
}

/** A swatch and the number, a mean with a fixed number of digits. */
function chip(intensity, digits = null) {
  const text = digits === null || Number.isNaN(intensity) ? lambda(intensity) : intensity.toFixed(digits);
  return el("span", { class: "chip" }, el("i", { style: { background: colour(intensity) } }), text);
}
