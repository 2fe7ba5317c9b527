"""What becomes of interactive figures: steady names in the notebook, a still beside each on the page."""

import copy
from typing import Any

from nbformat import NotebookNode, from_dict
from nbformat.v4 import new_code_cell

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
REFERENCE = "IPY_MODEL_"


def keep(notebook: NotebookNode, executed: NotebookNode) -> None:
    """Take over the state of the figures shown, under names that do not change from run to run.

    Jupyter names each model by chance, and stores also those that no output shows any more.
    """
    stored = executed.metadata.get("widgets", {}).get(STATE, {})
    models: dict[str, Any] = stored.get("state", {})
    names: dict[str, str] = {}

    def name(model: str) -> None:
        if model in names or model not in models:
            return
        names[model] = f"figure-{len(names) + 1}"
        for value in models[model]["state"].values():
            if isinstance(value, str) and value.startswith(REFERENCE):
                name(value.removeprefix(REFERENCE))

    for output in _views(notebook):
        name(output.data[VIEW]["model_id"])
        output.data[VIEW]["model_id"] = names[output.data[VIEW]["model_id"]]
    if not names:
        return
    state = {}
    for model, new in names.items():
        kept = copy.deepcopy(models[model])
        for key, value in kept["state"].items():
            if isinstance(value, str) and value.startswith(REFERENCE):
                kept["state"][key] = REFERENCE + names[value.removeprefix(REFERENCE)]
        state[new] = kept
    notebook.metadata["widgets"] = from_dict({STATE: {**stored, "state": state}})


def for_page(notebook: NotebookNode) -> NotebookNode:
    """The notebook as the pages are made of: a still where the figure was, the figure in a cell behind it.

    A page shows one kind of each output, and each output of a cell gets the caption. The layouts of Jupyter's
    widgets, which the page's own script does not read, are left out.
    """
    page = copy.deepcopy(notebook)
    cells = []
    for cell in page.cells:
        cells.append(cell)
        for number, output in enumerate(cell.get("outputs", [])):
            data = output.get("data", {})
            if VIEW in data and "image/png" in data:
                figure = copy.deepcopy(output)
                del data[VIEW], figure.data["image/png"]
                behind = new_code_cell("# an empty cell would be left out", id=f"{cell.id}-{number}")
                behind.metadata.tags = ["remove-input"]
                behind.outputs = [figure]
                cells.append(behind)
    page.cells = cells
    state = page.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    for model in [name for name, kept in state.items() if kept["model_module"] != "anywidget"]:
        del state[model]
    return page


def _views(notebook: NotebookNode) -> list[NotebookNode]:
    return [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if VIEW in output.get("data", {})
    ]
