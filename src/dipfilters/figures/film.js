// The training film: stored runs side by side, their outputs and a row of their filter at each look.
import {
  BLUE,
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
  unpack,
} from "./ui.js";

/** @typedef {import("./ui.js").Model} Model */
/** @typedef {{method: string, fed: string, looks: number[], steps: number[], psnr: number[], rows: boolean}} Run */

const COLOURS = [BLUE, GREEN, ORANGE, PINK];
const DASHES = ["none", "6 3", "8 2 2 2", "2 3"];

/** @param {{model: Model, el: HTMLElement}} context */
function render({ model, el }) {
  const [height, width] = model.get("shape");
  const count = height * width;
  /** @type {Run[]} */
  const runs = model.get("runs");
  /** @type {{name: string, place: [number, number]}[]} */
  const pixels = model.get("pixels");
  const inputs = [...new Set(runs.map((run) => run.fed))];
  const looks = runs[0].looks;
  /** @type {Uint8Array | undefined} */
  let frames;
  const said = readout();
  const curves = plot({
    label: "PSNR against the number of steps",
    x: "step k",
    y: "PSNR in dB",
    logX: true,
    rangeX: [1, Math.max(2, looks[looks.length - 1])],
    rangeY: model.get("decibels"),
  });
  const stage = element("div", { class: "dip-views dip-film" });
  const tied = tie(model);
  const time = timeline(tied, "step", looks, said);
  const fed = choice(tied, "fed", { label: "fed with", options: inputs });
  const spots = choice(tied, "pixel", {
    label: "row of the pixel in",
    options: pixels.map(({ name }) => name),
  });
  const shown = Math.max(...inputs.map((input) => runs.filter((run) => run.fed === input).length));
  const views = Array.from({ length: shown }, () => ({
    output: picture(height, width, ""),
    row: picture(height, width, ""),
  }));
  for (const { output, row } of views) stage.append(element("div", {}, output.root, row.root));

  function draw() {
    const i = time.at();
    if (!frames) return;
    const spot = pixels.findIndex(({ name }) => name === model.get("pixel"));
    const chosen = [...runs.entries()].filter(([, run]) => run.fed === model.get("fed"));
    /** @type {string[]} */
    const words = [];
    /** @type {import("./ui.js").Line[]} */
    const lines = [];
    for (const [at, { output, row }] of views.entries()) {
      const hidden = at >= chosen.length;
      output.root.hidden = hidden;
      row.root.hidden = hidden;
      if (hidden) continue;
      const [number, run] = chosen[at];
      const first = (number * looks.length + i) * (1 + pixels.length) * count;
      const value = run.psnr[run.steps.indexOf(looks[i])];
      output.paint(greys(levels(frames.subarray(first, first + count))));
      output.entitle(`${run.method}\n${value.toFixed(1)} dB`);
      const start = first + (1 + spot) * count;
      row.root.hidden = !run.rows;
      row.paint(signed(new Int8Array(frames.buffer, frames.byteOffset + start, count), 90));
      row.point(pixels[spot]?.place);
      row.entitle("its filter row");
      words.push(`${run.method} ${value.toFixed(2)} dB`);
      lines.push({
        points: run.steps.flatMap((k, j) => (k ? [/** @type {[number, number]} */ ([k, run.psnr[j]])] : [])),
        colour: COLOURS[at],
        dash: DASHES[at],
        name: run.method,
      });
    }
    curves.draw(lines, [{ x: Math.max(1, looks[i]) }]);
    said.textContent = `Fed with ${model.get("fed")}, after ${looks[i]} steps: ${words.join(", ")}.`;
  }

  el.append(
    element(
      "div",
      { class: "dip", role: "group", "aria-label": "Training film" },
      element(
        "div",
        { class: "dip-controls" },
        ...(inputs.length > 1 ? [fed] : []),
        ...(pixels.length > 1 ? [spots] : []),
      ),
      time.root,
      stage,
      said,
      element("div", { class: "dip-views dip-plots" }, curves.root),
    ),
  );
  el.dataset.state = "loading";
  unpack(/** @type {Uint8Array<ArrayBuffer>} */ (bytes(model, "frames"))).then((unpacked) => {
    frames = unpacked;
    el.dataset.state = "ready";
    draw();
  });
  tied.follow(["step", "fed", "pixel"], draw);
  return tied.end;
}

export default { render };
