// The arc-cosine lab: how a crowd of random neurons compares two patches at an angle.
import { kappa0, kappa1, nextSeed, normals } from "./maths.js";
import { BLUE, button, drawing, element, GREEN, ORANGE, PINK, plot, readout, slider, tie } from "./ui.js";

/** @typedef {import("./ui.js").Model} Model */

/**
 * The mean product of random ReLU features of two unit patches at an angle, and its standard error.
 *
 * K_c = (2/c) Σ relu(w·p) relu(w·q); neurons see only the plane of p and q, so that two numbers are a neuron.
 * @param {Float64Array} neurons
 * @param {number} angle
 */
export function crowd(neurons, angle) {
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const count = neurons.length / 2;
  let sum = 0;
  let squares = 0;
  for (let a = 0; a < neurons.length; a += 2) {
    const p = Math.max(0, neurons[a]);
    const q = Math.max(0, cos * neurons[a] + sin * neurons[a + 1]);
    sum += 2 * p * q;
    squares += (2 * p * q) ** 2;
  }
  const mean = sum / count;
  return { mean, error: Math.sqrt(Math.max(0, squares / count - mean ** 2) / count) };
}

/**
 * exp(−‖p − q‖² / h²) of two unit patches at an angle.
 * @param {number} angle
 * @param {number} bandwidth
 */
export function gaussianOfAngle(angle, bandwidth) {
  return Math.exp((2 * Math.cos(angle) - 2) / bandwidth ** 2);
}

const ANGLES = Array.from({ length: 61 }, (_, i) => (i * Math.PI) / 60);
const DEGREES = 180 / Math.PI;

/** @param {{model: Model, el: HTMLElement}} context */
function render({ model, el }) {
  const dial = drawing("svg", { viewBox: "-1.35 -1.35 2.7 2.7", role: "img", class: "dip-dial" });
  const kernels = plot({
    label: "Kernels against the angle",
    x: "angle φ in degrees",
    y: "kernel",
    rangeX: [0, 180],
    rangeY: [0, 1.4],
  });
  const said = readout();
  const tied = tie(model);
  const angles = slider(tied, "angle", { label: "angle φ", min: 0, max: 180, show: (phi) => `${phi}°` });
  const widths = slider(tied, "width", {
    label: "neurons",
    min: 3,
    max: 12,
    show: (m) => String(2 ** m),
    from: Math.log2,
    to: (m) => 2 ** m,
  });
  const bandwidths = slider(tied, "bandwidth", {
    label: "h of the Gaussian",
    min: 0.2,
    max: 2,
    step: 0.1,
    show: (h) => h.toFixed(1),
  });
  const again = button("New draw", () => tied.set("seed", nextSeed(model.get("seed"))));

  /** @param {number} phi */
  function turn(phi) {
    const half = (/** @type {number} */ at, /** @type {string} */ colour) =>
      drawing("path", {
        d: `M${Math.sin(at)} ${Math.cos(at)}A1 1 0 0 0 ${-Math.sin(at)} ${-Math.cos(at)}Z`,
        fill: colour,
        "fill-opacity": 0.35,
      });
    const arrow = (/** @type {number} */ at, /** @type {string} */ colour, /** @type {string} */ name) => [
      drawing("path", { d: `M0 0L${Math.cos(at)} ${-Math.sin(at)}`, stroke: colour, "stroke-width": 0.045 }),
      drawing("circle", { cx: Math.cos(at), cy: -Math.sin(at), r: 0.06, fill: colour }),
      drawing(
        "text",
        {
          x: 1.2 * Math.cos(at),
          y: 0.06 - 1.2 * Math.sin(at),
          "text-anchor": "middle",
          class: "dip-dial-name",
        },
        name,
      ),
    ];
    dial.replaceChildren(
      half(0, BLUE),
      half(phi, ORANGE),
      ...arrow(0, BLUE, "p"),
      ...arrow(phi, ORANGE, "q"),
    );
    dial.setAttribute(
      "aria-label",
      `Patches p and q at ${Math.round(phi * DEGREES)} degrees; the half discs are the neurons that are active for each`,
    );
  }

  function draw() {
    const [degrees, width, bandwidth, seed] = ["angle", "width", "bandwidth", "seed"].map((name) =>
      model.get(name),
    );
    const phi = degrees / DEGREES;
    const neurons = normals(seed, 2 * width);
    const { mean, error } = crowd(neurons, phi);
    turn(phi);
    const along = (/** @type {(angle: number) => number} */ f) =>
      /** @type {[number, number][]} */ (ANGLES.map((angle) => [angle * DEGREES, Math.min(1.4, f(angle))]));
    kernels.draw(
      [
        { points: along((angle) => kappa1(Math.cos(angle))), colour: BLUE, name: "κ₁" },
        { points: along((angle) => kappa0(Math.cos(angle))), colour: ORANGE, dash: "6 3", name: "κ₀" },
        {
          points: along((angle) => gaussianOfAngle(angle, bandwidth)),
          colour: GREEN,
          dash: "8 2 2 2",
          name: "Gaussian",
        },
        {
          points: along((angle) => crowd(neurons, angle).mean),
          colour: PINK,
          dash: "2 3",
          name: `${width} neurons`,
        },
      ],
      [{ x: degrees }, { x: degrees, y: Math.min(1.4, mean), error: 2 * error, colour: PINK }],
    );
    const exact = kappa1(Math.cos(phi));
    said.textContent =
      `At ${degrees}° ${width} neurons say ${mean.toFixed(3)} ± ${(2 * error).toFixed(3)} (two standard errors); ` +
      `the limit is κ₁ = ${exact.toFixed(4)}, with κ₀ = ${kappa0(Math.cos(phi)).toFixed(4)} and the Gaussian ${gaussianOfAngle(phi, bandwidth).toFixed(4)}.`;
  }

  el.append(
    element(
      "div",
      { class: "dip", role: "group", "aria-label": "Arc-cosine lab" },
      element("div", { class: "dip-controls" }, angles.root, widths.root, again, bandwidths.root),
      element("div", { class: "dip-views dip-plots" }, dial, kernels.root),
      said,
    ),
  );
  draw();
  tied.follow(["angle", "width", "bandwidth", "seed"], draw);
  return tied.end;
}

export default { render };
