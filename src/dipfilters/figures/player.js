// The twicing player: the picture, the residual and the errors after any number of steps, computed on the spot.
import { dot, nextSeed, normals, psnr, twicing } from "./maths.js";
import {
  BLUE,
  button,
  bytes,
  choice,
  element,
  GREEN,
  greys,
  levels,
  ORANGE,
  PINK,
  picture,
  plot,
  readout,
  signed,
  tie,
  timeline,
} from "./ui.js";

/** @typedef {import("./ui.js").Model} Model */
/** @typedef {{filter: string, sigma: number, seed: number}} Wish */
/** @typedef {{noisy: Float64Array, estimates: Float64Array[], bias: number[], variance: number[], error: number[], risk: number[], products: number}} Course */

/** The numbers of steps that the figure knows, some forty from 1 to 1000. */
export function stepGrid() {
  const all = Array.from({ length: 43 }, (_, i) => Math.round(1000 ** (i / 42)));
  return [...new Set(all)];
}

/**
 * Everything that the figure shows for one choice of filter, noise level and draw.
 *
 * The filter is made from the noisy picture y = x + n and then held fixed for bias² = mean (x − W_k x)² and
 * variance = mean (W_k n)², while Stein's estimate of the risk lets it change with y, as it does.
 * @param {Float64Array} clean
 * @param {number} height
 * @param {number} width
 * @param {Wish} wish
 * @returns {Course}
 */
export function course(clean, height, width, { filter, sigma, seed }) {
  const steps = stepGrid();
  const last = steps[steps.length - 1];
  const count = clean.length;
  const noise = normals(seed, count).map((value) => sigma * value);
  const noisy = clean.map((value, i) => value + noise[i]);
  const bandwidth = filter === "non-local means" ? 2 * sigma : null;
  const size = bandwidth === null ? 7 : 5;
  const make = (/** @type {Float64Array} */ values) =>
    twicing({ values, channels: 1, height, width }, size, bandwidth, last);
  const prepared = make(noisy);
  const [signal, chance] = [prepared(clean), prepared(noise)];
  const delta = 1e-3;
  const probe = normals(seed + 1, count);
  const moved = noisy.map((value, i) => value + delta * probe[i]);
  const after = make(moved)(moved);
  /** @type {Course} */
  const found = {
    noisy,
    estimates: [],
    bias: [],
    variance: [],
    error: [],
    risk: [],
    products: signal.products,
  };
  for (const k of steps) {
    const [kept, letIn] = [signal.step(k), chance.step(k)];
    const z = kept.map((value, i) => value + letIn[i]);
    const rest = (/** @type {ArrayLike<number>} */ a, /** @type {ArrayLike<number>} */ b) =>
      10 ** (-psnr(a, b) / 10);
    const changed = after.step(k).map((value, i) => (value - z[i]) / delta);
    found.estimates.push(z);
    found.bias.push(rest(kept, clean));
    found.variance.push(dot(letIn, letIn) / count);
    found.error.push(rest(z, clean));
    found.risk.push(rest(z, noisy) - sigma ** 2 + (2 * sigma ** 2 * dot(probe, changed)) / count);
  }
  return found;
}

/**
 * Compute in a worker, which has this very script, so that the page answers meanwhile; where none may be started,
 * here.
 * @param {string} script
 * @param {[Float64Array, number, number, Wish]} given
 * @returns {{result: Promise<Course>, cancel: () => void}}
 */
function compute(script, given) {
  // A worker of modules would not start on a page read from a folder, and one of scripts knows no exports.
  const text = `${script.replace(/^export (default .*)?/gm, "")}\nonmessage = ({ data }) => postMessage(course(...data));`;
  const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  /** @type {Worker | undefined} */
  let worker;
  /** @type {Promise<Course>} */
  const result = new Promise((resolve) => {
    const here = () => setTimeout(() => resolve(course(...given)), 30);
    try {
      worker = new Worker(address);
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = here;
      worker.postMessage(given);
    } catch {
      here();
    }
  });
  const cancel = () => {
    worker?.terminate();
    URL.revokeObjectURL(address);
  };
  return { result: result.finally(cancel), cancel };
}

/** @param {{model: Model, el: HTMLElement}} context */
function render({ model, el }) {
  const [height, width] = model.get("shape");
  const clean = levels(bytes(model, "clean"));
  const steps = stepGrid();
  /** @type {Course | undefined} */
  let found;
  let cancel = () => {};

  const views = [
    picture(height, width, "noisy"),
    picture(height, width, "estimate"),
    picture(height, width, "residual y − z"),
    picture(height, width, "error z − x"),
  ];
  const errors = plot({
    label: "Bias, variance, error and Stein's estimate of it against the number of steps",
    x: "step k",
    y: "mean square",
    logX: true,
    logY: true,
    rangeX: [1, 1000],
    rangeY: [1e-5, 0.1],
  });
  const said = readout();
  const tied = tie(model);
  const time = timeline(tied, "step", steps, said);
  const filters = choice(tied, "filter", {
    label: "filter",
    options: ["non-local means", "tangent kernel"],
  });
  const noises = choice(tied, "noise", { label: "noise 255 σ", options: [10, 25, 50] });
  const again = button("New noise", () => tied.set("seed", nextSeed(model.get("seed"))));

  function restart() {
    cancel();
    el.dataset.state = "computing"; // dimmed, with what was shown last
    said.textContent = "Computing all steps…";
    const begun = performance.now();
    const wish = { filter: model.get("filter"), sigma: model.get("noise") / 255, seed: model.get("seed") };
    if (!found) {
      const noise = normals(wish.seed, clean.length);
      const noisy = greys(clean.map((value, j) => value + wish.sigma * noise[j]));
      for (const view of views.slice(0, 2)) view.paint(noisy);
    }
    const work = compute(model.get("_esm"), [clean, height, width, wish]);
    cancel = work.cancel;
    work.result.then((course) => {
      found = course;
      el.dataset.milliseconds = (performance.now() - begun).toFixed(0);
      el.dataset.state = "ready";
      draw();
    });
  }

  function draw() {
    const i = time.at();
    if (!found || el.dataset.state !== "ready") return;
    const { noisy, estimates, bias, variance, error, risk, products } = found;
    const sigma = model.get("noise") / 255;
    const z = estimates[i];
    const [best, chosen] = [error, risk].map((values) => values.indexOf(Math.min(...values)));
    const decibels = (/** @type {number} */ at) => (-10 * Math.log10(error[at])).toFixed(2);
    views[0].paint(greys(noisy));
    views[1].paint(greys(z));
    views[2].paint(
      signed(
        noisy.map((value, j) => value - z[j]),
        4 * sigma,
      ),
    );
    views[3].paint(
      signed(
        z.map((value, j) => value - clean[j]),
        4 * sigma,
      ),
    );
    views[0].entitle(`noisy, ${psnr(noisy, clean).toFixed(2)} dB`);
    views[1].entitle(`estimate, ${decibels(i)} dB`);
    const inside = (/** @type {number} */ value) => Math.min(0.1, Math.max(1e-5, value));
    const along = (/** @type {number[]} */ values) =>
      /** @type {[number, number][]} */ (
        values.flatMap((value, at) => (value === inside(value) ? [[steps[at], value]] : []))
      );
    errors.draw(
      [
        { points: along(bias), colour: BLUE, name: "bias²" },
        { points: along(variance), colour: ORANGE, dash: "6 3", name: "variance" },
        { points: along(error), colour: GREEN, dash: "8 2 2 2", name: "error" },
        { points: along(risk), colour: PINK, dash: "2 3", name: "Stein's estimate" },
      ],
      [
        { x: steps[i] },
        { x: steps[i], y: inside(error[i]) },
        { x: steps[best], y: inside(error[best]), colour: GREEN },
        { x: steps[chosen], y: inside(risk[chosen]), colour: PINK },
      ],
    );
    said.textContent =
      `Step ${steps[i]}: ${decibels(i)} dB, bias² ${bias[i].toExponential(2)}, variance ${variance[i].toExponential(2)}. ` +
      `Best is step ${steps[best]} with ${decibels(best)} dB; Stein's estimate would stop at ${steps[chosen]}, with ${decibels(chosen)} dB. ` +
      `All steps were computed here, from ${products} products of the filter with a picture.`;
  }

  el.append(
    element(
      "div",
      { class: "dip", role: "group", "aria-label": "Twicing player" },
      element("div", { class: "dip-controls" }, filters, noises, again),
      time.root,
      element("div", { class: "dip-views dip-film" }, ...views.map((view) => view.root)),
      said,
      element("div", { class: "dip-views dip-plots" }, errors.root),
    ),
  );
  restart();
  tied.follow(["step"], draw);
  tied.follow(["filter", "noise", "seed"], restart);
  tied.atEnd(() => cancel());
  return tied.end;
}

export default { render };
