"""The benchmark page: the newest results of `make bench`, with their figures. Written by each build."""

import json
from itertools import cycle
from pathlib import Path
from statistics import mean, stdev
from typing import Any

WORDS = {
    "ratios_alt": "A horizontal bar for each comparison on a logarithmic axis, with a tick where the bar was "
    "set before the measurement; the table below holds the numbers.",
    "curves_alt": "Three plots. Time for a pair of pixels against the side of a patch, nearly flat; against "
    "the depth of the network, rising evenly; and seconds of a full denoising against the number of pixels "
    "on logarithmic axes, a steep line for the exact result and a flatter one for Nyström.",
}
FIGURES = ("benchmark-ratios.png", "benchmark-curves.png")
READER_FIGURE = "benchmark-reader.png"

HEAD = """# Benchmarks

How fast is the package, and against what? Every figure on this page comes from `make bench`, which times the
package and its peers in turns within one process, compares their results, and stops at a wrong one. A ratio
is the median over the rounds of the newest run; the smallest and the largest are in brackets. Beside it stand
the medians of all runs that are kept. The bars were set before anything was measured; a bar that is missed is
shown as missed. The floor is how far the time here lies above the least that this machine allows: the
multiplications with an addition that the work needs, each counted once, at the rate at which the machine does
nothing else. How it is done is in
[How to apply a matrix you cannot store](../notebooks/a1-a-matrix-you-cannot-store.ipynb).

```{{figure}} {ratios}
:name: fig-benchmark-ratios
:alt: {ratios_alt}

How many times as long as the package each peer takes, and the bar that was set.
```

| work | against | here | above the floor | there | ratio | all runs | bar | |
|---|---|--:|--:|--:|--:|--:|--:|---|
"""

CURVES = """
## Where the time goes

```{{figure}} {curves}
:name: fig-benchmark-curves
:alt: {curves_alt}

Left and middle: nanoseconds for each pair of pixels of one product, against the side of a patch (one hidden
layer) and against the depth (3×3 convolutions). Right: a full denoising with 7×7 patches, exact and by
Nyström with one pixel in a hundred as columns.
```
"""

QUALITY = """
## Other denoisers

What the closed form is *not* is the best denoiser. PSNR in dB and seconds on pictures of 96×96 pixels,
grey, σ = 25/255, means of two draws of the noise; the closed form is stopped where an oracle would. (BM3D by
the PyPI package `bm3d`, whose licence allows non-commercial use only; it is in the environment of the
benchmarks and not in the book's.)

"""

READER = """
## PSNR against seconds

```{{figure}} {figure}
:name: fig-benchmark-reader
:alt: {alt}

PSNR against seconds of one thread of the processor, on a logarithmic axis: means over {pictures}. Hollow
marks are an oracle's choices. Bars are 95 % intervals of that mean over {draws} draws of the noise; some are
smaller than their mark.
```

The reader's job is one noisy photograph: {what}. Non-local means (scikit-image, fast mode), BM3D and Stein's
rule are told σ; the network of ZS-N2N is not. Two choices were made with the clean picture at hand, which a
reader does not have: the width of the Gaussian, and the stop of the closed forms where it says *oracle*. With
*SURE*, the stop is that of `denoise`, which costs two more runs. Seconds are of the processor, one thread,
without compiling. ZS-N2N trains in bfloat16, for which this processor has units of its own; its line shows
one training after {looks} epochs, fewer than the 2000 or so of its authors.

| | stop | PSNR | seconds | draws |
|---|---|--:|--:|--:|
{rows}
BM3D is that of Dabov, Foi, Katkovnik and Egiazarian (2007), by the package `bm3d` of its authors at Tampere
University, which may be used for non-commercial purposes only. ZS-N2N is that of Mansour and Heckel (2023,
arXiv 2303.11253), written anew from their description. {facts}
"""

READER_ALT = (
    "A plot with a mark for each method and stop. The table below holds the numbers. Methods higher up are "
    "better, and those further to the left are faster."
)

NO_CARD = """
## What a graphics card does

No card has run this code yet, and no number on this page comes from one. The product with the kernel of
one hidden layer is written in Triton for CUDA cards. Tests run it by Triton's interpreter on the processor
against the reference, and compile it for a card. Deeper networks, and cards without Triton, take the engine
in torch.

On a machine with a CUDA card, `make gpu-check` compares each engine with the reference, and times Triton
against plain torch, variants of the engine in torch against each other, steps of the networks of chapters 6
and 7 against the processor, and the linearised network in float32 against float64. It writes `card.md` and
`card.json` to `benchmarks/results`, and this section then shows that report.
"""


MEGAPIXEL = """
## One megapixel, exactly

Once, a picture of a million pixels was denoised without any approximation but rounding and Lanczos' bound
({bound:.0e}): {work}. It took {products} products with a matrix of 10¹² entries, {hours:.1f} hours of
processor time ({wall:.0f} minutes by the clock, during which {threads} threads worked {busy:.0%} of the
time), and {memory:.1f} GB; the PSNR rose from {noisy_psnr:.2f} to {best_psnr:.2f} dB at step {best_step}.
({facts}.)
"""


ANSWERS = """
## Interactive figures

The figures that compute in the reader's browser, on {date} with {hardware}, {browser}, from a built page on
this disk, medians of five visits. A click in the row explorer is answered in {median:.0f} ms, at most
{largest:.0f} (a picture of {pixels} pixels, {patches} patches: both rows, three pictures, two plots).

| page | all its figures answer after |
|---|--:|
"""


def stored(root: Path) -> list[dict[str, Any]]:
    """The results of all runs, the newest last."""
    paths = sorted((root / "benchmarks" / "results").glob("20*.json"))
    return [json.loads(path.read_text("utf-8")) for path in paths]


def number(value: float) -> str:
    """Three digits, and no power of ten where a reader can do without."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _amount(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 1e6:,.0f} MB"
    return f"{number(value)} s" if unit == "s" else f"{value:.1e}"


def _row(row: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    medians = [
        number(other["ratio"]) for run in runs for other in run["rows"] if other["name"] == row["name"]
    ]
    ratio = f"{number(row['ratio'])} [{number(row['smallest'])}, {number(row['largest'])}]"
    sign = "≤" if row["at_most"] else "≥"
    verdict = {True: "met", False: "**missed**", None: ""}[row["met"]]
    note = f"; {row['note']}" if row["note"] else ""
    cells = [
        row["work"],
        row["peer"] + note,
        _amount(row["ours"], row["unit"]),
        f"{row['ours'] / row['floor']:.1f}×" if row.get("floor") else "",
        _amount(row["theirs"], row["unit"]),
        ratio,
        ", ".join(medians),
        "" if row["bar"] is None else f"{sign} {number(row['bar'])}",
        verdict,
    ]
    return f"| {' | '.join(cells)} |\n"


def _facts(result: dict[str, Any]) -> str:
    facts, limits, curves = result["provenance"], result["limits"], result["curves"]
    one_layer = curves["by_patch_size"][curves["patch_sizes"].index(11)]
    versions = ", ".join(f"{name} {value}" for name, value in facts["versions"].items())
    return (
        f"\nA full denoising takes a time that grows like the number of pixels to the power "
        f"{curves['slope_exact']:.2f} (exact) and {curves['slope_low_rank']:.2f} (Nyström with one column "
        f"for a hundred pixels). This machine multiplies matrices at {limits['gflops']:.0f} GFLOP/s and "
        f"copies at {limits['copy_gb_per_s']:.0f} GB/s in float32. At {one_layer:.2f} ns a pair (11×11 "
        f"patches) and about 50 operations for each computed pair, half of all, the walk does "
        f"{25 / one_layer:.0f} GFLOP/s, {25 / one_layer / limits['gflops']:.0%} of the former; its planes "
        f"stay in the cache, so that memory is no limit.\n\n"
        f"Measured on {facts['date'][:10]} with {facts['hardware']}, {facts['threads']} threads; "
        f"Python {facts['python']}, {versions}; commit {facts['commit']}.\n"
    )


def _quality(rows: list[dict[str, Any]]) -> str:
    pictures = list(dict.fromkeys(row["picture"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    found = {
        (picture, method): {
            key: mean(row[key] for row in rows if (row["picture"], row["method"]) == (picture, method))
            for key in ("psnr", "seconds")
        }
        for picture in pictures
        for method in methods
    }
    lines = [f"| | {' | '.join(pictures)} |", f"|---|{'--:|' * len(pictures)}"]
    for method in methods:
        cells = [
            f"{found[p, method]['psnr']:.2f} ({number(found[p, method]['seconds'])} s)" for p in pictures
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _points(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each method and stop: the mean over pictures and draws, and half of its 95 % interval over draws."""
    from scipy.stats import t as student

    found = []
    for key in dict.fromkeys((row["method"], row["stop"]) for row in rows):
        some = [row for row in rows if (row["method"], row["stop"]) == key]
        draws = sorted({row["draw"] for row in some})
        means = [mean(row["psnr"] for row in some if row["draw"] == draw) for draw in draws]
        half = None
        if len(draws) > 1:
            half = float(student.ppf(0.975, len(draws) - 1)) * stdev(means) / len(draws) ** 0.5
        point = {"method": key[0], "stop": key[1], "psnr": mean(means), "half": half, "draws": len(draws)}
        found.append(point | {"seconds": mean(row["seconds"] for row in some)})
    return found


def _draw_reader(points: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    from dipfilters.plots import BLUE, GREEN, INK, ORANGE, PINK, SKY, panels, use_style

    with plt.rc_context():
        use_style()
        figure, (axes,) = panels(1, height=3.6, width=8.0)
        timed = [point for point in points if point["seconds"] > 0]
        methods = list(dict.fromkeys(point["method"] for point in timed))
        kinds = list(dict.fromkeys(method.partition(",")[0] for method in methods))  # of the closed form
        colours = dict(zip(kinds, cycle((INK, GREEN, PINK, BLUE, ORANGE, SKY)), strict=False))
        for method in methods:
            colour = colours[method.partition(",")[0]]
            some = [point for point in timed if point["method"] == method]
            several = len(some) > 2  # looks at one training
            if several:
                line = ([point[name] for point in some] for name in ("seconds", "psnr"))
                axes.plot(*line, color=colour, linestyle="-", linewidth=1)
            for point in some:
                stop = "" if point["stop"] == "none" else f", {'up to ' * several}{point['stop']}"
                axes.errorbar(
                    point["seconds"],
                    point["psnr"],
                    yerr=point["half"],
                    color=colour,
                    marker="o" if several else "Ds^vPX"[methods.index(method) % 6],
                    markerfacecolor="none" if point["stop"] == "oracle" else colour,
                    linestyle="none",
                    capsize=2,
                    label=f"{method}{stop}" if point is some[-1] or not several else None,
                )
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
        axes.set(xscale="log", xlabel="seconds of the processor, one thread", ylabel="PSNR in dB")
        figure.savefig(path)
        plt.close(figure)


def _reader(result: dict[str, Any], folder: Path) -> str:
    points, facts = _points(result["rows"]), result["provenance"]
    _draw_reader(points, folder / READER_FIGURE)
    rows = ""
    for point in points:
        psnr = f"{point['psnr']:.2f}" + ("" if point["half"] is None else f" ± {point['half']:.2f}")
        seconds = number(point["seconds"]) if point["seconds"] else ""
        rows += f"| {point['method']} | {point['stop']} | {psnr} | {seconds} | {point['draws']} |\n"
    looks = [point["stop"].partition(" ")[0] for point in points if point["method"] == "ZS-N2N"]
    versions = ", ".join(f"{name} {facts['versions'][name]}" for name in ("torch", "scikit-image", "bm3d"))
    return READER.format(
        figure=READER_FIGURE,
        alt=READER_ALT,
        what=result["what"],
        pictures=", ".join(dict.fromkeys(row["picture"] for row in result["rows"])),
        draws=max(point["draws"] for point in points),
        looks=", ".join(looks),
        rows=rows,
        facts=f"Measured on {facts['date'][:10]} with {facts['hardware']}; {versions}; commit "
        f"{facts['commit']}.",
    )


def _megapixel(result: dict[str, Any]) -> str:
    facts = result["provenance"]
    return MEGAPIXEL.format(
        **result,
        hours=result["processor_seconds"] / 3600,
        wall=result["wall_seconds"] / 60,
        busy=result["processor_seconds"] / result["wall_seconds"] / result["threads"],
        memory=result["peak_bytes"] / 1e9,
        facts=f"{facts['date'][:10]}, {facts['hardware']}, commit {facts['commit']}",
    )


def _draw(result: dict[str, Any], folder: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    from dipfilters.plots import BLUE, INK, ORANGE, panels, use_style

    with plt.rc_context():
        use_style()
        rows = [row for row in result["rows"] if row["unit"] == "s" and not row["at_most"]]
        figure, (axes,) = panels(1, height=0.55 * len(rows) + 0.8, width=8.0)
        axes.barh(range(len(rows)), [row["ratio"] for row in rows], color=BLUE, height=0.55)
        for place, row in enumerate(rows):
            if row["bar"] is not None:
                axes.plot(
                    [row["bar"]] * 2, [place - 0.4, place + 0.4], color=ORANGE, linestyle="-", linewidth=3
                )
            axes.text(row["ratio"] * 1.05, place, f"{number(row['ratio'])}×", va="center", color=INK)
        axes.set_yticks(range(len(rows)), [f"{row['work']}\n{row['peer']}" for row in rows], fontsize=7.5)
        axes.invert_yaxis()
        axes.set(xscale="log", xlabel="how many times as long the peer takes (orange: the bar)")
        axes.set_xlim(1, 3 * max(row["ratio"] for row in rows))
        figure.savefig(folder / FIGURES[0])

        curves = result["curves"]
        figure, axes3 = panels(3, height=2.8, width=8.0)
        axes3[0].plot(curves["patch_sizes"], curves["by_patch_size"], marker="o")
        axes3[0].set(xlabel="side of a patch in pixels", ylabel="ns for a pair of pixels", ylim=(0, None))
        axes3[1].plot(curves["depths"], curves["by_depth"], marker="o")
        axes3[1].set(xlabel="hidden layers", ylim=(0, None))
        pixels = [side**2 for side in curves["sides"]]
        axes3[2].loglog(pixels, curves["exact"], marker="o", label="exact")
        axes3[2].loglog(pixels, curves["low_rank"], marker="s", label="Nyström, 1 %")
        axes3[2].set(xlabel="pixels", ylabel="seconds")
        axes3[2].set_xticks(pixels[::2], [f"{side}²" for side in curves["sides"][::2]])
        axes3[2].minorticks_off()
        axes3[2].legend(fontsize=8)
        figure.savefig(folder / FIGURES[1])
        plt.close("all")


def write(root: Path, folder: Path) -> None:
    """Write the page and its figures into `folder`."""
    runs = stored(root)
    if not runs:
        text = "# Benchmarks\n\nNothing was measured yet: `make bench` does.\n"
    else:
        result = runs[-1]
        _draw(result, folder)
        names = {"ratios": FIGURES[0], "curves": FIGURES[1]} | WORDS
        rows = "".join(_row(row, runs) for row in result["rows"])
        text = HEAD.format(**names) + rows + CURVES.format(**names) + _facts(result)
        text += QUALITY + _quality(result["quality"])
    reader = root / "benchmarks" / "results" / "reader.json"
    if reader.exists():
        text += _reader(json.loads(reader.read_text("utf-8")), folder)
    card = root / "benchmarks" / "results" / "card.md"
    text += "\n#" + card.read_text("utf-8") if card.exists() else NO_CARD
    large = root / "benchmarks" / "results" / "megapixel.json"
    if large.exists():
        text += _megapixel(json.loads(large.read_text("utf-8")))
    figures = root / "benchmarks" / "results" / "figures.json"
    if figures.exists():
        result = json.loads(figures.read_text("utf-8"))
        facts = result["provenance"] | {"date": result["provenance"]["date"][:10]}
        text += ANSWERS.format(**facts, **result["click_ms"])
        text += "".join(f"| {name} | {ms:.0f} ms |\n" for name, ms in result["interactive_ms"].items())
    (folder / "benchmarks.md").write_text(text, "utf-8")
