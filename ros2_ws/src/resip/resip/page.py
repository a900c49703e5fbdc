"""Web pages of one file that load nothing from anywhere, and plots for them."""

from __future__ import annotations

import io
from typing import Any, Final

import jinja2
from matplotlib.figure import Figure

INK: Final = "#3d4650"

#: Of every plot on a page, for ``matplotlib.rc_context``.
PLOT_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.edgecolor": "#c3cad1",
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "axes.grid": True,
    "grid.color": "#e6eaee",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "lines.linewidth": 1.4,
}


def render(package: str, template: str, **values: Any) -> str:
    """Fill a template of ``package``, which extends ``page.html.j2`` and may import ``parts.html.j2``.

    Text is escaped. Filters: ``percent`` of a share, ``figure`` for three significant digits.
    """
    folders = jinja2.ChoiceLoader([jinja2.PackageLoader(name, ".") for name in (package, "resip")])
    environment = jinja2.Environment(
        loader=folders, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["percent"] = _percent
    environment.filters["figure"] = _figure
    return environment.get_template(template).render(**values)


def svg(figure: Figure) -> str:
    """Return a figure as text for a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _percent(share: float) -> str:
    """A share as a whole percentage."""
    return f"{100 * share:.0f} %"


def _figure(value: float) -> str:
    """Three significant digits, without exponents."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
