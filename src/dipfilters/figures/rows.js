// The row explorer: who contributes to a pixel, under non-local means and under the tangent kernel.
import {
  cosine,
  dot,
  extractPatches,
  filterRow,
  gaussianKernel,
  innerProducts,
  tangentKernel,
} from "./maths.js";
import {
  BLUE,
  bytes,
  element,
  greys,
  levels,
  ORANGE,
  overlay,
  pickPixel,
  picture,
  plot,
  readout,
  slider,
  tie,
} from "./ui.js";

/** @typedef {import("./ui.js").Model} Model */
/** @typedef {import("./maths.js").Kernel} Kernel */
/** @typedef {import("./maths.js").Picture} Picture */
/** @typedef {import("./maths.js").Patches} Patches */
/** @typedef {ReturnType<typeof plot>} Plot */

/**
 * What the figure says of one pixel.
 * @param {Picture} noisy
 * @param {Patches} patches
 * @param {number} i
 * @param {number} bandwidth
 */
export function explore(noisy, patches, i, bandwidth) {
  const inner = innerProducts(patches, i);
  const judge = (/** @type {Kernel} */ kernel) => {
    const row = filterRow(patches, inner, i, kernel);
    return { row, value: dot(row, noisy.values), pixels: 1 / dot(row, row) };
  };
  return { inner, means: judge(gaussianKernel(bandwidth)), tangent: judge(tangentKernel) };
}

/** @param {{model: Model, el: HTMLElement}} context */
function render({ model, el }) {
  const [height, width] = model.get("shape");
  const [low, high] = model.get("range");
  const clean = levels(bytes(model, "clean"));
  /** @type {Picture} */
  const noisy = { values: levels(bytes(model, "noisy"), low, high), channels: 1, height, width };
  const sigma = model.get("sigma");
  /** @type {Map<number, Patches>} */
  const known = new Map();
  const patchesOf = (/** @type {number} */ size) => {
    const found = known.get(size) ?? extractPatches(noisy, size);
    known.set(size, found);
    return found;
  };

  const source = picture(height, width, "noisy picture");
  source.paint(greys(noisy.values));
  const views = {
    means: picture(height, width, "non-local means"),
    tangent: picture(height, width, "tangent kernel"),
  };
  const scatter = plot({
    label: "Weight of each pixel against the distance of its patch",
    x: "distance of the patches / σ",
    y: "weight / largest",
    rangeX: [0, 8],
    rangeY: [0, 1],
  });
  const angles = plot({
    label: "Weight of each pixel against the angle of its patch",
    x: "angle of the patches in degrees",
    y: "weight / largest",
    rangeX: [0, 90],
    ticksX: [0, 30, 60, 90],
    rangeY: [0, 1],
  });
  const said = readout();
  const tied = tie(model);
  for (const view of [source, views.means, views.tangent])
    pickPixel(tied, "pixel", view, "Choose a pixel by the arrow keys");
  const sizes = slider(tied, "patch_size", {
    label: "patch",
    min: 1,
    max: Math.min(9, 2 * Math.min(height, width) - 1),
    step: 2,
    show: (k) => `${k}×${k}`,
  });
  const widths = slider(tied, "bandwidth", {
    label: "bandwidth h",
    min: 0.5,
    max: 4,
    step: 0.1,
    show: (h) => `${h.toFixed(1)} σ`,
  });

  /**
   * @param {Plot} target
   * @param {{row: Float64Array}[]} found
   * @param {number} own
   * @param {(j: number) => number} place
   */
  function dots(target, found, own, place) {
    // Not 2·16384 elements: two paths, a stroke of no length for each of a few thousand dots.
    const stride = Math.ceil(clean.length / 4000);
    const lines = found.map(({ row }, kind) => {
      let top = 0;
      for (let j = 0; j < row.length; j++) if (j !== own) top = Math.max(top, row[j]);
      let d = "";
      for (let j = 0; top > 0 && j < row.length; j += stride) {
        if (j === own) continue;
        const x = target.right(place(j));
        if (x <= 312) d += `M${x.toFixed(1)} ${target.up(row[j] / top).toFixed(1)}h0`;
      }
      return { d, colour: [BLUE, ORANGE][kind] };
    });
    target.draw(
      ["non-local means", "tangent kernel"].map((name, kind) => ({
        points: [],
        colour: [BLUE, ORANGE][kind],
        name,
      })),
    );
    for (const [at, path] of [...target.svg.querySelectorAll("path.dip-line")].entries()) {
      path.setAttribute("d", lines[at].d);
      path.setAttribute("stroke-linecap", "round");
      path.setAttribute("stroke-opacity", "0.55");
    }
  }

  function draw() {
    const begun = performance.now();
    const pixel = /** @type {[number, number]} */ (model.get("pixel"));
    const size = model.get("patch_size");
    const i = pixel[0] * width + pixel[1];
    const patches = patchesOf(size);
    const { inner, means, tangent } = explore(noisy, patches, i, model.get("bandwidth") * sigma);
    views.means.paint(overlay(clean, means.row, i));
    views.tangent.paint(overlay(clean, tangent.row, i));
    const { powers } = patches;
    dots(
      scatter,
      [means, tangent],
      i,
      (j) => Math.sqrt(Math.max(0, powers[i] + powers[j] - 2 * inner[j])) / sigma,
    );
    dots(
      angles,
      [means, tangent],
      i,
      (j) => (Math.acos(cosine(powers[i], inner[j], powers[j])) * 180) / Math.PI,
    );
    const grey = (/** @type {number} */ value) => (255 * value).toFixed(1);
    said.textContent =
      `Pixel (${pixel.join(", ")}) is ${grey(clean[i])} of 255, with noise ${grey(noisy.values[i])}. ` +
      `Non-local means makes ${grey(means.value)} of it from effectively ${means.pixels.toFixed(1)} pixels` +
      (tangent.row[i] > 0
        ? `, one average with the tangent kernel ${grey(tangent.value)} from ${tangent.pixels.toFixed(0)}.`
        : `. With the tangent kernel the weights of pixel (${pixel.join(", ")}) sum to 0 and make no average: ` +
          "its patch, black perhaps, resembles none; choose another pixel or a larger patch.");
    el.dataset.milliseconds = (performance.now() - begun).toFixed(1);
  }

  el.append(
    element(
      "div",
      { class: "dip", role: "group", "aria-label": "Row explorer" },
      element("div", { class: "dip-controls" }, sizes.root, widths.root),
      element("div", { class: "dip-views dip-three" }, source.root, views.means.root, views.tangent.root),
      said,
      element("div", { class: "dip-views dip-plots" }, scatter.root, angles.root),
      element(
        "p",
        { class: "dip-note" },
        "Point at a picture, on a screen of glass tap it, or reach it with Tab and use the arrow keys (with Shift in steps of ten). Both rows are scaled to sum to one.",
      ),
    ),
  );
  draw();
  tied.follow(["pixel", "patch_size", "bandwidth"], draw);
  return tied.end;
}

export default { render };
