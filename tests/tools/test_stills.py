"""Interactive figures on their way into notebooks and pages: steady names, a still, nothing left over."""

import copy
from typing import Any

import nbformat
from nbformat import NotebookNode

from tools import stills
from tools.stills import STATE, VIEW

PNG = "iVBORw0KGgo="


def model(module: str, state: dict[str, Any]) -> dict[str, Any]:
    return {"model_name": "Model", "model_module": module, "model_module_version": "1", "state": state}


def executed(figure: str, layout: str) -> NotebookNode:
    """A notebook as it comes from a run, its models named by chance, one of them shown nowhere any more."""
    shown = nbformat.v4.new_output(
        "execute_result",
        data={VIEW: {"model_id": figure, "version_major": 2, "version_minor": 0}, "image/png": PNG},
        execution_count=1,
    )
    plain = nbformat.v4.new_output("stream", text="words\n")
    cells = [
        nbformat.v4.new_code_cell("figure", id="a", outputs=[plain, shown], execution_count=1),
        nbformat.v4.new_markdown_cell("text", id="b"),
    ]
    buffers = [{"data": "AAE=", "encoding": "base64", "path": ["frames"]}]
    models = {
        figure: model("anywidget", {"layout": f"IPY_MODEL_{layout}", "step": 3}) | {"buffers": buffers},
        layout: model("@jupyter-widgets/base", {}),
        "forgotten": model("anywidget", {}),
    }
    metadata = {"widgets": {STATE: {"state": models, "version_major": 2, "version_minor": 0}}}
    made: NotebookNode = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    return made


def kept(figure: str = "5f3a", layout: str = "77c0") -> NotebookNode:
    run = executed(figure, layout)
    result = copy.deepcopy(run)
    del result.metadata["widgets"]
    stills.keep(result, run)
    return result


def test_two_runs_leave_the_same_notebook() -> None:
    one, two = kept(), kept("0b1e", "9d2f")
    assert one == two
    state = one.metadata.widgets[STATE]["state"]
    assert list(state) == ["figure-1", "figure-2"]
    assert state["figure-1"]["state"] == {"layout": "IPY_MODEL_figure-2", "step": 3}
    assert state["figure-1"]["buffers"][0]["data"] == "AAE="
    assert one.cells[0].outputs[1].data[VIEW]["model_id"] == "figure-1"
    nbformat.validate(one)


def test_a_page_has_the_still_in_the_cell_and_the_figure_behind_it() -> None:
    notebook = kept()
    before = copy.deepcopy(notebook)
    page = stills.for_page(notebook)
    assert notebook == before
    first, behind, text = page.cells
    assert [sorted(output.get("data", {})) for output in first.outputs] == [[], ["image/png"]]
    assert [sorted(output.data) for output in behind.outputs] == [[VIEW]]
    assert behind.metadata.tags == ["remove-input"]
    assert text.cell_type == "markdown"
    assert list(page.metadata.widgets[STATE]["state"]) == ["figure-1"]
    nbformat.validate(page)
