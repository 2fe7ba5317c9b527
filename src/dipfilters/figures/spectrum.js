// The spectrum explorer: what a network's filter lets in sooner, and how much of it after k steps.
import {
  BLUE,
  bytes,
  choice,
  element,
  ORANGE,
  picture,
  plot,
  readout,
  signed,
  tie,
  timeline,
  unpack,
} from "./ui.js";

/** @typedef {import("./ui.js").Model} Model */
/** @typedef {{network: string, fed: string}} Spectrum */

/**
 * The part of an eigenvector that k steps let in, λ relative to the largest: 1 − (1 − λ)^k.
 * @param {number} eigenvalue
 * @param {number} k
 */
export function gain(eigenvalue, k) {
  return -Math.expm1(k * Math.log1p(-Math.min(eigenvalue, 1 - 1e-16)));
}

/**
 * Σ 1 − (1 − λ)^k, the degrees of freedom after k steps.
 * @param {ArrayLike<number>} eigenvalues
 * @param {number} k
 */
export function degreesOfFreedom(eigenvalues, k) {
  let sum = 0;
  for (let i = 0; i < eigenvalues.length; i++) sum += gain(eigenvalues[i], k);
  return sum;
}

const STEPS = Array.from({ length: 37 }, (_, i) => Math.round(10 ** (i / 6)));

/** @param {{model: Model, el: HTMLElement}} context */
function render({ model, el }) {
  const [height, width] = model.get("shape");
  const [pixels, kept] = [height * width, model.get("vectors_kept")];
  /** @type {Spectrum[]} */
  const spectra = model.get("spectra");
  const raw = bytes(model, "eigenvalues");
  const eigenvalues = new Float32Array(raw.slice().buffer);
  const valuesOf = (/** @type {number} */ at) => eigenvalues.subarray(at * pixels, (at + 1) * pixels);
  /** @type {Uint8Array | undefined} */
  let vectors;
  const unique = (/** @type {"network" | "fed"} */ name) => [...new Set(spectra.map((one) => one[name]))];
  const index = (/** @type {string} */ network, /** @type {string} */ fed) =>
    spectra.findIndex((one) => one.network === network && one.fed === fed);

  const views = Array.from({ length: kept }, () => picture(height, width, ""));
  const said = readout();
  const falling = plot({
    label: "Eigenvalues, relative to the largest, against their number",
    x: "number of the eigenvalue",
    y: "eigenvalue / largest",
    logX: true,
    logY: true,
    rangeX: [1, Math.max(2, pixels)],
    rangeY: [1e-8, 1],
  });
  const freedom = plot({
    label: "Degrees of freedom against the number of steps",
    x: "step k",
    y: "degrees of freedom",
    logX: true,
    logY: true,
    rangeX: [1, 1e6],
    rangeY: [1, Math.max(2, pixels)],
  });
  const tied = tie(model);
  const networks = choice(tied, "network", { label: "network", options: unique("network") });
  const inputs = choice(tied, "fed", { label: "fed with", options: unique("fed") });
  const time = timeline(tied, "step", STEPS, said);

  function draw() {
    const [network, fed] = [model.get("network"), model.get("fed")];
    const k = STEPS[time.at()];
    const at = index(network, fed);
    const values = valuesOf(at);
    if (vectors)
      for (const [j, view] of views.entries()) {
        const start = (at * kept + j) * pixels;
        view.paint(signed(new Int8Array(vectors.buffer, vectors.byteOffset + start, pixels), 127));
        view.entitle(`λ ${values[j].toPrecision(2)}: ${(100 * gain(values[j], k)).toFixed(0)} %`);
      }
    /** @type {import("./ui.js").Line[][]} */
    const lines = [[], []];
    for (const [other, input] of unique("fed").entries()) {
      const spectrum = valuesOf(index(network, input));
      const colour = [BLUE, ORANGE][other];
      const dash = input === fed ? "none" : "2 3";
      const name = `fed with ${input}`;
      /** @type {[number, number][]} */
      const points = [];
      for (let j = 0; j < pixels; j = Math.max(j + 1, Math.floor(j * 1.06)))
        points.push([j + 1, Math.max(1e-8, spectrum[j])]);
      lines[0].push({ points, colour, dash, name });
      lines[1].push({
        points: STEPS.map((step) => [step, Math.max(1, degreesOfFreedom(spectrum, step))]),
        colour,
        dash,
        name,
      });
    }
    const half = values.reduce((sum, value) => sum + Number(gain(value, k) >= 0.5), 0);
    falling.draw(lines[0], [{ x: Math.max(1, half), name: "let in by half up to here" }]);
    freedom.draw(lines[1], [{ x: k }]);
    said.textContent =
      `${network} fed with ${fed}: after ${k.toLocaleString("en")} steps ${degreesOfFreedom(values, k).toFixed(1)} of ${pixels} degrees of freedom, ` +
      `${half} eigenvectors let in by half or more.`;
  }

  el.append(
    element(
      "div",
      { class: "dip", role: "group", "aria-label": "Spectrum explorer" },
      element("div", { class: "dip-controls" }, networks, inputs),
      time.root,
      said,
      element("div", { class: "dip-views dip-small" }, ...views.map((view) => view.root)),
      element(
        "p",
        { class: "dip-note" },
        "Above each eigenvector: its eigenvalue, relative to the largest, and how much of it k steps let in.",
      ),
      element("div", { class: "dip-views dip-plots" }, falling.root, freedom.root),
    ),
  );
  el.dataset.state = "loading";
  unpack(/** @type {Uint8Array<ArrayBuffer>} */ (bytes(model, "vectors"))).then((unpacked) => {
    vectors = unpacked;
    el.dataset.state = "ready";
    draw();
  });
  draw();
  tied.follow(["network", "fed", "step"], draw);
  return tied.end;
}

export default { render };
