"""Sphinx settings of the site; `make docs` stages its pages and builds it."""

project = "diffwave-engine"
author = "the diffwave-engine authors"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
myst_heading_anchors = 6
# docs/tools/site.py links to lines of source files with the scheme "source".
myst_url_schemes = {"http": None, "https": None, "mailto": None, "source": {"url": "{{path}}#{{fragment}}"}}
# Pages of source files are reached by links alone; JSON and C++ fragments need not be lexed without an error.
suppress_warnings = ["toc.not_included", "misc.highlighting_failure"]
html_theme = "furo"
html_title = "diffwave-engine"
html_show_sourcelink = False
html_copy_source = False
html_extra_path = ["../build/site-files"]
pygments_style = "friendly"
pygments_dark_style = "monokai"
