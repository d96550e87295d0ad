"""Great Expectations' own pages of a result and of a suite, each one file that needs nothing else.

As Great Expectations writes them, the pages load some fourteen scripts and styles from elsewhere, and a logo from a
server that is told an identifier of the installation. Here its renderers fill its templates, with those replaced that
load anything: there is a style of our own, no script, and a content policy that keeps browsers from loading what a
template of another release, or the data itself, may bring in.
"""

from __future__ import annotations

import re
from copy import copy
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from featuremill.artifacts.store import Store
from featuremill.core.quality.expectations.suites import import_gx, quiet

if TYPE_CHECKING:
    from featuremill.core.quality.expectations.suites import Suite

__all__ = ["remote_assets", "result_page", "save_pages", "suite_page"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="UTF-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ page_title | e }}</title>
<style>{{ style }}</style>
</head>
<body>
<header><strong>Great Expectations</strong> {{ page_title | e }}
{%- if link %} · <a href="{{ link | urlencode }}">{{ link_text | e }}</a>{% endif %}</header>
<div class="page">
<nav><ul>
{%- for section in sections %}
<li><a href="#section-{{ loop.index }}">{{ section["section_name"] | e }}</a></li>
{%- endfor %}
</ul></nav>
<main>
{% for section in sections %}{% set section_loop = loop -%}{% include 'section.j2' %}{% endfor %}
</main>
</div>
</body>
</html>
"""
COLLAPSE = """<details><summary>{{ content_block.get("collapse_toggle_link", "More") | render_content_block }}</summary>
{% include 'content_block_header.j2' %}
{% for block in content_block["collapse"] %}{{ block | render_content_block }}{% endfor %}
</details>
"""
TABS = """{% include 'content_block_header.j2' %}
{% for tab in content_block["tabs"] %}<h6>{{ tab.get("tab_name", "") | e }}</h6>
{{ tab.get("tab_content") | render_content_block }}{% endfor %}
"""
OWN_TEMPLATES = {
    "page.j2": PAGE,
    "collapse.j2": COLLAPSE,
    "tabs.j2": TABS,
    # Charts are drawn by a script from elsewhere; what they show stands in the result as numbers.
    "graph.j2": "{% include 'content_block_header.j2' %}",
}

_TAGS = "script|link|img|iframe|object|embed|source|video|audio|image|use"
_ASSET = re.compile(
    rf"""<(?:{_TAGS})\b[^>]*?(?:src|href|data)\s*=\s*["']?\s*(?:https?:)?//[^>]*>"""
    r"""|(?:url\(|@import)\s*["']?\s*(?:https?:)?//[^"')\s]*""",
    re.IGNORECASE,
)
_SUITE_LINK = re.compile(r'href="(?:\.\./)+expectations/[^"]*"')


def remote_assets(page: str) -> list[str]:
    """What a page would load from elsewhere when it is opened; links that one may click on are none.

    >>> remote_assets('<a href="https://example.com">x</a><img src="https://example.com/logo.png">')
    ['<img src="https://example.com/logo.png">']
    """
    return _ASSET.findall(page)


@cache
def view() -> Any:
    """Great Expectations' page view, with our templates before its own, and with the data's texts escaped."""
    import_gx()
    from great_expectations.render.view import DefaultJinjaPageView
    from jinja2 import ChoiceLoader, DictLoader, pass_context

    class OfflinePageView(DefaultJinjaPageView):  # type: ignore[misc]  # Great Expectations is not followed by mypy
        def __init__(self) -> None:
            super().__init__()
            self.env.loader = ChoiceLoader([DictLoader(OWN_TEMPLATES), self.env.loader])
            self.env.filters["render_markdown"] = escape

        @pass_context
        def render_content_block(self, context: Any, content_block: Any, *args: Any, **options: Any) -> Any:
            # Great Expectations puts values of the data into its tables as they are, mark-up and all.
            if isinstance(content_block, str):
                return escape(content_block)
            if isinstance(content_block, list):
                content_block = [escape(b) if isinstance(b, str) else b for b in content_block]
            return super().render_content_block(context, content_block, *args, **options)

    return OfflinePageView()


@cache
def style() -> str:
    """The style of the pages."""
    return files("featuremill.core.quality.reports").joinpath("templates/data_docs.css").read_text(encoding="utf-8")


def result_page(result: Any, *, link: str = "") -> str:
    """The page of a validation result; `link` is the path of the suite's page beside it."""
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer

    run = result.meta["run_id"]
    shown = copy(result)
    # Its title reads a run's name as a time, and fails where that makes no sense: -8812 as the offset of a time zone.
    shown.meta = {**result.meta, "run_id": RunIdentifier(run_name=f"run {run.run_name}", run_time=run.run_time)}
    with quiet():
        return rendered(ValidationResultsPageRenderer().render(shown), link, "the suite")


def suite_page(suite: Suite, *, link: str = "") -> str:
    """The page of a suite; `link` is the path of a result's page beside it."""
    from great_expectations.render.renderer.page_renderer import ExpectationSuitePageRenderer

    with quiet():
        return rendered(ExpectationSuitePageRenderer().render(suite.to_gx()), link, "the result")


def rendered(document: Any, link: str, link_text: str) -> str:
    """A document in HTML."""
    page: str = view().render(document, policy=POLICY, style=style(), link=link, link_text=link_text)
    # A result's page points to where the suite's page lies in a whole site; a description may hold mark-up.
    return _ASSET.sub("", _SUITE_LINK.sub(f'href="{quote(link) or "#"}"', page))


def save_pages(result: Any, suite: Suite, store: Store, folder: str = "") -> list[str]:
    """Write the pages of a result and of its suite below a folder of a store; their paths, the result's first."""
    name = f"{result.batch_id}-{suite.name}"
    names = [f"{name}.html", f"{name}-suite.html"]
    pages = [result_page(result, link=names[1]), suite_page(suite, link=names[0])]
    prefix = f"{folder.rstrip('/')}/" if folder else ""
    for name, page in zip(names, pages, strict=True):
        store.put(prefix + name, page.encode())
    return [prefix + name for name in names]
