/* Small repairs that the theme leaves to a site read from a folder, without a server and without a network. */

/* Sphinx fetches each page it found to quote from it. A browser refuses that on file://, and the refusal is an
   uncaught error in the console; there the results come without quotations. */
if (window.location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

const SCROLLING = "div.math, .pst-scrollable-table-container, div.highlight pre, .cell_output figure";

document.addEventListener("DOMContentLoaded", () => {
  /* What scrolls sideways can be scrolled from the keyboard. */
  for (const box of document.querySelectorAll(SCROLLING)) {
    const update = () => {
      if (box.scrollWidth > box.clientWidth + 1) box.setAttribute("tabindex", "0");
      else box.removeAttribute("tabindex");
    };
    new ResizeObserver(update).observe(box);
  }
});
