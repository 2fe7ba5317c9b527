// The parts that the figures are made of: controls with a label, a picture to point at, a plot, a spoken line.

/**
 * @typedef {{
 *   get(name: string): any, set(name: string, value: unknown): void, save_changes(): void,
 *   on(event: string, call: () => void): void, off(event: string, call: () => void): void
 * }} Model
 * @typedef {ReturnType<typeof tie>} Tie
 * @typedef {{points: [number, number][], colour: string, dash?: string, name?: string}} Line
 * @typedef {{label: string, x: string, y: string, logX?: boolean, logY?: boolean,
 *   rangeX: [number, number], rangeY: [number, number], ticksX?: number[]}} Axes
 */

export const BLUE = "#2a86c7";
export const ORANGE = "#d9730d";
export const GREEN = "#1a9e77";
export const PINK = "#c566a0";

/**
 * @param {string} tag
 * @param {Record<string, string | number | boolean>} [attributes]
 * @param {(Node | string)[]} children
 * @returns {HTMLElement}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value !== false) made.setAttribute(name, value === true ? "" : String(value));
  made.append(...children);
  return made;
}

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {(Node | string)[]} children
 */
export function drawing(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/**
 * What ties a figure to its model: what the reader's hand changes is kept there, and what changed there, by this
 * hand, in another view or from Python, is shown. `end` unties it all.
 * @param {Model} model
 */
export function tie(model) {
  /** @type {(() => void)[]} */
  const ends = [];
  const get = (/** @type {string} */ name) => model.get(name);
  const set = (/** @type {string} */ name, /** @type {unknown} */ value) => {
    model.set(name, value);
    model.save_changes();
  };
  const follow = (/** @type {string[]} */ names, /** @type {() => void} */ call) => {
    for (const name of names) {
      model.on(`change:${name}`, call);
      ends.push(() => model.off(`change:${name}`, call));
    }
  };
  const atEnd = (/** @type {() => void} */ call) => ends.push(call);
  const end = () => {
    for (const call of ends) call();
  };
  return { get, set, follow, atEnd, end };
}

/**
 * A slider with its label and its value in words.
 * @param {Tie} tied
 * @param {string} name what it changes; `from` and `to` lead from there to the slider's number and back
 * @param {{label: string, min: number, max: number, step?: number, show?: (value: number) => string,
 *   from?: (value: any) => number, to?: (value: number) => unknown}} options
 */
export function slider(tied, name, options) {
  const { label, min, max, step = 1, show = String, from = Number, to = Number } = options;
  const input = /** @type {HTMLInputElement} */ (
    element("input", {
      type: "range",
      min,
      max,
      step,
      "data-lm-suppress-shortcuts": "true", // else JupyterLab takes the arrow keys
    })
  );
  const shown = element("span", { class: "dip-value", "aria-hidden": "true" });
  const update = () => {
    const value = from(tied.get(name));
    input.value = String(value);
    shown.textContent = show(value);
    input.setAttribute("aria-valuetext", show(value));
  };
  input.addEventListener("input", () => tied.set(name, to(Number(input.value))));
  tied.follow([name], update);
  update();
  const root = element("label", { class: "dip-control" }, element("span", {}, label), input, shown);
  return { root, input };
}

/**
 * A list to choose from.
 * @param {Tie} tied
 * @param {string} name what it changes
 * @param {{label: string, options: (string | number)[]}} options
 */
export function choice(tied, name, { label, options }) {
  const input = /** @type {HTMLSelectElement} */ (
    element(
      "select",
      { "data-lm-suppress-shortcuts": "true" },
      ...options.map((value) => element("option", { value }, String(value))),
    )
  );
  const update = () => {
    input.value = String(tied.get(name));
  };
  input.addEventListener("change", () => tied.set(name, options[input.selectedIndex]));
  tied.follow([name], update);
  update();
  return element("label", { class: "dip-control" }, element("span", {}, label), input);
}

/**
 * @param {string} text
 * @param {() => void} onClick
 */
export function button(text, onClick) {
  const made = element("button", { type: "button", class: "dip-button" }, text);
  made.addEventListener("click", onClick);
  return made;
}

/** A line of text that screen readers speak when it changes; not while a film plays, but when it stops. */
export function readout() {
  return element("p", { class: "dip-readout", "aria-live": "polite" });
}

/**
 * A picture on a canvas, one canvas pixel a pixel, under its title.
 * @param {number} height
 * @param {number} width
 * @param {string} title
 */
export function picture(height, width, title) {
  const canvas = /** @type {HTMLCanvasElement} */ (
    element("canvas", { height, width, role: "img", "aria-label": title })
  );
  const frame = element("div", { class: "dip-frame" }, canvas);
  const caption = element("figcaption", {}, title);
  const root = element("figure", { class: "dip-picture" }, caption, frame);
  const cross = mark();
  /** Mark a pixel; none if there is no place. */
  const point = (/** @type {[number, number] | undefined} */ place) => {
    if (place === undefined) return cross.remove();
    moveTo(cross, place, width, height);
    frame.append(cross);
  };
  const paint = (/** @type {Uint8ClampedArray} */ pixels) => {
    const data = new ImageData(width, height);
    data.data.set(pixels);
    canvas.getContext("2d")?.putImageData(data, 0, 0);
  };
  const entitle = (/** @type {string} */ text) => {
    caption.textContent = text;
    canvas.setAttribute("aria-label", text);
  };
  return { root, canvas, frame, paint, point, entitle };
}

/** The cross that marks a pixel. */
function mark() {
  return drawing(
    "svg",
    { class: "dip-cross", viewBox: "-5 -5 10 10", "aria-hidden": "true" },
    drawing("path", { d: "M-4 0H4M0 -4V4", class: "dip-cross-back" }),
    drawing("path", { d: "M-4 0H4M0 -4V4" }),
  );
}

/**
 * @param {SVGElement} cross
 * @param {[number, number]} place
 * @param {number} width
 * @param {number} height
 */
function moveTo(cross, [row, column], width, height) {
  cross.style.left = `${((column + 0.5) / width) * 100}%`;
  cross.style.top = `${((row + 0.5) / height) * 100}%`;
}

/**
 * Let the reader choose a pixel of the picture: by mouse, by finger, by the arrow keys (ten pixels with Shift).
 * @param {Tie} tied
 * @param {string} name what it changes
 * @param {{canvas: HTMLCanvasElement, frame: HTMLElement}} target
 * @param {string} label
 */
export function pickPixel(tied, name, { canvas, frame }, label) {
  const { width, height } = canvas;
  const cross = mark();
  frame.append(cross);
  frame.classList.add("dip-pick");
  frame.tabIndex = 0;
  frame.setAttribute("role", "application");
  frame.setAttribute("data-lm-suppress-shortcuts", "true");
  const update = () => {
    const [row, column] = tied.get(name);
    moveTo(cross, [row, column], width, height);
    frame.setAttribute("aria-label", `${label}: row ${row}, column ${column}`);
  };
  const choose = (/** @type {number} */ row, /** @type {number} */ column) =>
    tied.set(name, [Math.min(height - 1, Math.max(0, row)), Math.min(width - 1, Math.max(0, column))]);
  const point = (/** @type {PointerEvent} */ event) => {
    const box = canvas.getBoundingClientRect();
    choose(
      Math.floor(((event.clientY - box.top) / box.height) * height),
      Math.floor(((event.clientX - box.left) / box.width) * width),
    );
  };
  frame.addEventListener("pointerdown", (event) => {
    frame.setPointerCapture(event.pointerId);
    point(event);
  });
  // A mouse need not press; a finger that moves up or down scrolls the page. Once a frame at most.
  /** @type {PointerEvent | undefined} */
  let latest;
  frame.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse" && !frame.hasPointerCapture(event.pointerId)) return;
    if (latest === undefined)
      requestAnimationFrame(() => {
        if (latest) point(latest);
        latest = undefined;
      });
    latest = event;
  });
  frame.addEventListener("keydown", (event) => {
    /** @type {Record<string, [number, number]>} */
    const moves = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    };
    const move = moves[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const far = event.shiftKey ? 10 : 1;
    const [row, column] = tied.get(name);
    choose(row + far * move[0], column + far * move[1]);
  });
  tied.follow([name], update);
  update();
}

/**
 * Values in [0, 1] as grey pixels, or as colours if there are three channels.
 * @param {ArrayLike<number>} values
 * @param {number} [channels]
 */
export function greys(values, channels = 1) {
  const count = values.length / channels;
  const pixels = new Uint8ClampedArray(4 * count);
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < 3; c++) pixels[4 * i + c] = 255 * values[(channels === 3 ? c : 0) * count + i];
    pixels[4 * i + 3] = 255;
  }
  return pixels;
}

/**
 * A filter row over its picture: orange where a weight is positive, blue where it is negative.
 *
 * Opacity grows with the root of the weight; the largest one besides the pixel's own is in full colour.
 * @param {ArrayLike<number>} ground grey values of the picture
 * @param {ArrayLike<number>} row
 * @param {number} own the number of the pixel
 */
export function overlay(ground, row, own) {
  let top = 0;
  for (let i = 0; i < row.length; i++) if (i !== own) top = Math.max(top, Math.abs(row[i]));
  const pixels = new Uint8ClampedArray(4 * row.length);
  for (let i = 0; i < row.length; i++) {
    const opacity = Math.sqrt(Math.min(1, Math.abs(row[i]) / (top || 1)));
    const full = row[i] < 0 ? [0, 0.3, 0.85] : [0.9, 0.36, 0];
    const pale = 0.25 + 0.6 * Math.min(1, Math.max(0, ground[i]));
    for (let c = 0; c < 3; c++) pixels[4 * i + c] = 255 * ((1 - opacity) * pale + opacity * full[c]);
    pixels[4 * i + 3] = 255;
  }
  return pixels;
}

/**
 * Values of both signs, blue below zero, orange above, white at zero.
 * @param {ArrayLike<number>} values
 * @param {number} top
 */
export function signed(values, top) {
  const pixels = new Uint8ClampedArray(4 * values.length);
  for (let i = 0; i < values.length; i++) {
    const share = Math.max(-1, Math.min(1, values[i] / top));
    const full = share < 0 ? [45, 0, 75] : [127, 59, 8];
    const middle = share < 0 ? [153, 142, 195] : [241, 163, 64];
    const size = Math.abs(share);
    for (let c = 0; c < 3; c++)
      pixels[4 * i + c] =
        size < 0.5 ? 255 + 2 * size * (middle[c] - 255) : middle[c] + (2 * size - 1) * (full[c] - middle[c]);
    pixels[4 * i + 3] = 255;
  }
  return pixels;
}

const [WIDE, HIGH, LEFT, BELOW] = [320, 210, 46, 40];

/**
 * Round values for the ticks of an axis.
 * @param {[number, number]} range
 * @param {boolean} [log]
 */
export function ticks([low, high], log) {
  /** @type {number[]} */
  const found = [];
  if (log) {
    const decades = Math.ceil((Math.log10(high) - Math.log10(low) + 1e-9) / 4.5);
    for (let d = Math.ceil(Math.log10(low) - 1e-9); 10 ** d <= high * 1.0001; d++)
      if (d % Math.max(1, decades) === 0) found.push(10 ** d);
    return found;
  }
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((f) => f * power >= rough) ?? 10);
  for (let t = Math.ceil(low / step - 1e-9); t * step <= high + 1e-9; t++) found.push(t * step);
  return found;
}

/**
 * A number of an axis: plain where it is short, else, on a logarithmic axis, a power of ten.
 * @param {number} value
 */
export function label(value) {
  if (value > 0 && (value >= 1e4 || value < 1e-2)) {
    const power = String(Math.round(Math.log10(value)));
    return `10${[...power].map((sign) => "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"["0123456789-".indexOf(sign)]).join("")}`;
  }
  return String(Number(value.toPrecision(3)));
}

/**
 * A plot of lines and marks. `draw` replaces what it shows.
 * @param {Axes} axes
 */
export function plot(axes) {
  const { label: title, x, y, logX, logY, rangeX, rangeY, ticksX } = axes;
  const place = (
    /** @type {number} */ value,
    /** @type {[number, number]} */ [low, high],
    /** @type {boolean | undefined} */ log,
  ) => {
    const f = log ? (/** @type {number} */ v) => Math.log(Math.max(v, low)) : Number;
    return (f(value) - f(low)) / (f(high) - f(low));
  };
  const right = (/** @type {number} */ value) => LEFT + place(value, rangeX, logX) * (WIDE - LEFT - 8);
  const up = (/** @type {number} */ value) => HIGH - BELOW - place(value, rangeY, logY) * (HIGH - BELOW - 8);
  const frame = drawing("g", { class: "dip-axes" });
  for (const t of ticksX ?? ticks(rangeX, logX))
    frame.append(
      drawing("path", { d: `M${right(t)} 8V${HIGH - BELOW}` }),
      drawing(
        "text",
        { x: right(t), y: HIGH - BELOW + 14, "text-anchor": right(t) > WIDE - 20 ? "end" : "middle" },
        label(t),
      ),
    );
  for (const t of ticks(rangeY, logY))
    frame.append(
      drawing("path", { d: `M${LEFT} ${up(t)}H${WIDE - 8}` }),
      drawing("text", { x: LEFT - 4, y: up(t) + 4, "text-anchor": "end" }, label(t)),
    );
  frame.append(
    drawing("text", { x: (LEFT + WIDE) / 2, y: HIGH - 6, "text-anchor": "middle" }, x),
    drawing(
      "text",
      {
        x: 0,
        y: 0,
        "text-anchor": "middle",
        transform: `translate(11 ${(HIGH - BELOW) / 2}) rotate(-90)`,
      },
      y,
    ),
  );
  const inside = drawing("g", {});
  const svg = drawing(
    "svg",
    { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": title },
    frame,
    inside,
  );
  const legend = element("div", { class: "dip-legend" });
  const root = element("div", { class: "dip-plot" }, svg, legend);
  /**
   * @param {Line[]} lines
   * @param {{x: number, y?: number, colour?: string, name?: string, error?: number}[]} [marks]
   */
  const draw = (lines, marks = []) => {
    inside.replaceChildren();
    legend.replaceChildren();
    for (const { points, colour, dash, name } of lines) {
      const path = points
        .map(([a, b], i) => `${i ? "L" : "M"}${right(a).toFixed(1)} ${up(b).toFixed(1)}`)
        .join("");
      inside.append(
        drawing("path", {
          d: path,
          stroke: colour,
          class: "dip-line",
          "stroke-dasharray": dash ?? "none",
        }),
      );
      if (name) legend.append(key(name, colour, points.length ? dash : "dot"));
    }
    for (const { x: at, y: high, colour = "currentColor", name, error } of marks) {
      if (high === undefined)
        inside.append(
          drawing("path", {
            d: `M${right(at)} 8V${HIGH - BELOW}`,
            stroke: colour,
            class: "dip-marker",
          }),
        );
      else {
        if (error)
          inside.append(
            drawing("path", {
              d: `M${right(at)} ${up(high - error)}V${up(high + error)}`,
              stroke: colour,
              class: "dip-line",
            }),
          );
        inside.append(drawing("circle", { cx: right(at), cy: up(high), r: 4, fill: colour }));
      }
      if (name) legend.append(key(name, colour, high === undefined ? "2 3" : "dot"));
    }
  };
  return { root, svg, draw, right, up };
}

/**
 * @param {string} name
 * @param {string} colour
 * @param {string} [dash]
 */
export function key(name, colour, dash) {
  const sign =
    dash === "dot"
      ? drawing("circle", { cx: 11, cy: 5, r: 4, fill: colour })
      : drawing("path", {
          d: "M0 5H22",
          stroke: colour,
          class: "dip-line",
          "stroke-dasharray": dash ?? "none",
        });
  return element("span", {}, drawing("svg", { viewBox: "0 0 22 10", "aria-hidden": "true" }, sign), name);
}

/**
 * The bytes of a trait, which is a DataView.
 * @param {Model} model
 * @param {string} name
 */
export function bytes(model, name) {
  const { buffer, byteOffset, byteLength } = /** @type {DataView} */ (model.get(name));
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/**
 * Bytes that Python's zlib packed.
 * @param {Uint8Array<ArrayBuffer>} packed
 */
export async function unpack(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * Bytes as numbers: 0 is `low`, 255 is `high`.
 * @param {Uint8Array} raw
 * @param {number} low
 * @param {number} high
 */
export function levels(raw, low = 0, high = 1) {
  return Float64Array.from(raw, (level) => low + (level * (high - low)) / 255);
}

/**
 * A slider over some numbers of steps, and a button that plays it; slowly where less motion is preferred. `at`
 * gives the number in the list of the step that is nearest to the present one.
 * @param {Tie} tied
 * @param {string} name what it changes
 * @param {number[]} steps ascending
 * @param {HTMLElement} said the readout, silent while it plays
 */
export function timeline(tied, name, steps, said) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const last = steps.length - 1;
  const far = (/** @type {number} */ i, /** @type {number} */ k) =>
    Math.abs(Math.log1p(steps[i]) - Math.log1p(k));
  const nearest = (/** @type {number} */ k) =>
    steps.reduce((best, _, i) => (far(i, k) < far(best, k) ? i : best), 0);
  const at = () => nearest(tied.get(name));
  const { root: slide, input } = slider(tied, name, {
    label: "step k",
    min: 0,
    max: last,
    show: (i) => steps[i].toLocaleString("en"),
    from: nearest,
    to: (i) => steps[i],
  });
  if (last > 30) input.classList.add("dip-long");
  /** @type {ReturnType<typeof setInterval> | undefined} */
  let running;
  const stop = () => {
    clearInterval(running);
    if (running !== undefined) {
      said.setAttribute("aria-live", "polite");
      said.replaceChildren(said.textContent ?? ""); // now it is spoken, once
    }
    running = undefined;
    play.textContent = "▶ Play";
  };
  const advance = () => {
    const i = (at() + 1) % steps.length;
    tied.set(name, steps[i]);
    if (i === last) stop();
  };
  const play = button("", () => {
    if (running !== undefined) return stop();
    play.textContent = "❚❚ Pause";
    said.setAttribute("aria-live", "off");
    running = setInterval(advance, calm ? 1500 : 500);
  });
  stop();
  tied.atEnd(stop);
  return { root: element("div", { class: "dip-controls" }, play, slide), at };
}
