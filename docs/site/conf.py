"""The chapters as static pages, executed as committed: `make site`. https://myst-nb.readthedocs.io"""

import json

project = "Honest brain-tumour MRI"
copyright = "the authors named in CITATION.cff; not a medical device"
root_doc = "docs/site/index"
# The source folder is the repository; of it only what a reader reads.
include_patterns = [
    "docs/site/index.md",
    "notebooks/*.ipynb",
    "docs/*.md",
    "datasets/README.md",
    "jobs/README.md",
    "saved_metrics/README.md",
    "saved_models/README.md",
]
extensions = ["myst_nb", "sphinx-mathjax-offline"]  # formulas need no network
nb_execution_mode = "off"  # what is shown is what was committed
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = project
html_static_path = ["static"]
html_css_files = ["site.css"]
# Files beside the pages, such as the code that a chapter names, stay on the disk: their links are not checked.
suppress_warnings = ["myst.xref_missing", "myst.header", "misc.highlighting_failure", "mystnb.unknown_mime_type"]


def for_readers(app, name, source):
    """What MyST-NB reads from cells alone: the alternative text of an image, which Jupyter reads from the output, and
    that the code of a cell that tells results opens with a click, so that the first screen holds the answer."""
    if name.startswith("notebooks/"):
        notebook = json.loads(source[0])
        for cell in notebook["cells"]:
            if "records" in cell["metadata"].get("tags", []):
                cell["metadata"]["tags"].append("hide-input")
            for output in cell.get("outputs", []):
                if found := output.get("metadata", {}).get("image/png"):
                    cell["metadata"]["mystnb"] = {"image": found}
        source[0] = json.dumps(notebook)


def setup(app):
    app.connect("source-read", for_readers)
