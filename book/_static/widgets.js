// Brings the interactive figures of a page to life, with no kernel and no other script: reads the state that
// the notebook stored, runs each figure's own module, and puts it in the place of its still.
(() => {
  const read = (kind) =>
    [...document.querySelectorAll(`script[type="application/vnd.jupyter.widget-${kind}+json"]`)].map(
      (script) => [script, JSON.parse(script.textContent)],
    );

  const decode = (text) => new DataView(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);

  /** A model as the figures know it: values, and the functions to call when one changes. */
  const model = ({ state, buffers = [] }) => {
    const values = { ...state };
    const heard = {};
    for (const { path, data } of buffers) values[path[0]] = decode(data);
    return {
      get: (name) => values[name],
      set: (name, value) => {
        const same = JSON.stringify(values[name]) === JSON.stringify(value);
        values[name] = value;
        if (!same) for (const call of [...(heard[`change:${name}`] ?? [])]) call();
      },
      save_changes: () => {},
      on: (event, call) => {
        heard[event] = [...(heard[event] ?? []), call];
      },
      off: (event, call) => {
        heard[event] = (heard[event] ?? []).filter((other) => other !== call);
      },
    };
  };

  const show = async (script, stored) => {
    const place = document.createElement("div");
    place.className = "book-widget";
    const still = script.closest(".cell")?.previousElementSibling?.querySelector("figure img");
    const address = URL.createObjectURL(new Blob([stored.state._esm], { type: "text/javascript" }));
    const { default: figure } = await import(address);
    URL.revokeObjectURL(address);
    if (still) {
      still.before(place);
      still.hidden = true;
    } else script.before(place);
    place.model = model(stored);
    try {
      await figure.render({ model: place.model, el: place });
    } catch (error) {
      place.remove();
      if (still) still.hidden = false;
      throw error;
    }
  };

  const start = () => {
    const states = Object.assign({}, ...read("state").map(([, { state }]) => state));
    const style = document.createElement("style");
    style.textContent = [...new Set(Object.values(states).map(({ state }) => state._css ?? ""))].join("\n");
    document.head.append(style);
    for (const [script, { model_id: name }] of read("view"))
      if (states[name]?.state._esm) show(script, states[name]).catch(console.error);
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
