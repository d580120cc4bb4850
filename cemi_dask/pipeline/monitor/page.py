"""The page /cemi on the scheduler's dashboard: runs, their stages, memory, the growing mosaic."""

from __future__ import annotations

import base64
import time
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from dask.utils import format_bytes

from cemi_dask.pipeline.monitor.facts import StageFacts, duration

if TYPE_CHECKING:
    from distributed import Scheduler

    from cemi_dask.pipeline.monitor.plugin import CemiMonitor

PATH = "/cemi"
_EVERY_MS = 1000
_MOST_SHOWN = 40  # runs; further ones are counted
_COLOURS = {"running": "#2b7bba", "done": "#3a9d5d", "failed": "#c23b3b", "interrupted": "#b8860b"}
STYLE = """
.cemi { font: 14px/1.45 Helvetica, Arial, sans-serif; color: #222; padding: 8px 16px; }
.cemi h2 { font-size: 18px; margin: 18px 0 6px; font-weight: 600; }
.cemi .facts { color: #555; margin: 2px 0 10px; }
.cemi table { border-collapse: collapse; width: 100%; max-width: 1100px; }
.cemi th { text-align: left; font-weight: 600; color: #555; border-bottom: 1px solid #ccc; }
.cemi th, .cemi td { padding: 4px 14px 4px 0; white-space: nowrap; }
.cemi td.number { text-align: right; font-variant-numeric: tabular-nums; }
.cemi .bar { width: 320px; height: 14px; background: #e8e8e8; border-radius: 3px;
  overflow: hidden; }
.cemi .bar div { height: 100%; }
.cemi img { display: block; margin: 8px 0; background: #111; max-width: 100%;
  image-rendering: auto; border-radius: 3px; }
.cemi .error { color: #c23b3b; white-space: normal; max-width: 1100px; }
"""


def add_page(scheduler: Scheduler, monitor: CemiMonitor) -> None:
    """Add the page, and its tab, to a dashboard that runs already."""
    from distributed.dashboard.core import BokehApplication
    from distributed.dashboard.scheduler import template_variables
    from tornado.ioloop import IOLoop

    variables = template_variables(scheduler)
    if "cemi" not in variables["pages"]:
        variables["pages"].append("cemi")
    pages = {PATH: partial(_document, monitor)}
    prefix = getattr(scheduler, "http_prefix", "") or ""
    application = BokehApplication(pages, scheduler, prefix=prefix, template_variables=variables)
    scheduler.http_application.add_application(application)
    application.initialize(IOLoop.current())


def _document(monitor: CemiMonitor, scheduler: Scheduler, extra: dict[str, Any], doc: Any) -> None:
    """Fill one visitor's Bokeh document and keep it true."""
    from bokeh.models.widgets import Div
    from distributed.dashboard.components.scheduler import env

    shown = Div(text=page_html(scheduler, monitor), sizing_mode="stretch_width")

    def update() -> None:
        text = page_html(scheduler, monitor)
        if text != shown.text:
            shown.text = text

    doc.title = "cemi"
    doc.add_root(shown)
    doc.template = env.get_template("simple.html")
    doc.template_variables.update(extra)
    doc.add_periodic_callback(update, _EVERY_MS)


def page_html(scheduler: Scheduler, monitor: CemiMonitor) -> str:
    """What the page shows now. Names and errors come from users: they are escaped."""
    runs = list(reversed(monitor.runs.values()))
    runs.sort(key=lambda stages: not any(f.state == "running" for f in stages.values()))
    parts = [f'<div class="facts">{escape(cluster_line(scheduler))}</div>']
    parts += [_run(stages, monitor) for stages in runs[:_MOST_SHOWN]]
    if not runs:
        parts.append("<p>No run has told anything yet.</p>")
    if len(runs) > _MOST_SHOWN:
        parts.append(f"<p>{len(runs) - _MOST_SHOWN} further runs are not shown.</p>")
    return f"<style>{STYLE}</style><div class='cemi'>{''.join(parts)}</div>"


def cluster_line(scheduler: Scheduler) -> str:
    """Workers, memory, and GPU memory and use where a worker tells of one."""
    workers = list(scheduler.workers.values())
    used = sum(int(w.metrics.get("memory", 0)) for w in workers)
    limit = sum(int(w.memory_limit or 0) for w in workers)
    cpu = sum(float(w.metrics.get("cpu", 0)) for w in workers)
    many = f"{len(workers)} worker{'' if len(workers) == 1 else 's'}"
    line = f"{many}, {cpu / 100:.1f} cores busy, memory {format_bytes(used)}"
    line += f" of {format_bytes(limit)}" if limit else ""
    told = [
        (w.metrics["gpu"], (w.extra or {}).get("gpu", {})) for w in workers if w.metrics.get("gpu")
    ]
    if not told:
        return f"{line}; no GPU is reported"
    busy = ", ".join(f"{now.get('utilization', 0)} %" for now, _ in told)
    held = sum(int(now.get("memory-used", 0)) for now, _ in told)
    whole = sum(int(fixed.get("memory-total", 0)) for _, fixed in told)
    return f"{line}; GPU {busy} busy, memory {format_bytes(held)} of {format_bytes(whole)}"


def _run(stages: dict[str, StageFacts], monitor: CemiMonitor) -> str:
    """A run: name, its stages in the order they began, its picture, its error."""
    facts = list(stages.values())
    newest = max(facts, key=lambda f: f.at)
    ago = time.time() - newest.at
    news = "" if ago < 5 or newest.state == "done" else f", no news for {duration(ago)}"
    rows = "".join(_row(f) for f in facts)
    picture = monitor.pictures.get(newest.run)
    image = ""
    if picture:
        data = base64.b64encode(picture).decode()
        image = f'<img alt="mosaic so far" src="data:image/png;base64,{data}">'
    errors = "".join(f'<p class="error">{escape(f.error)}</p>' for f in facts if f.error)
    head = "<tr><th>stage</th><th></th><th>items</th><th>time</th><th>speed</th><th>left</th></tr>"
    return (
        f"<h2>{escape(newest.run)}</h2>"
        f"<div class='facts'>{escape(newest.out)}: {escape(newest.stage)} {newest.state}"
        f"{news}</div>"
        f"<table>{head}{rows}</table>{image}{errors}"
    )


def _row(f: StageFacts) -> str:
    colour = _COLOURS.get(f.state, "#888")
    bar = (
        f'<div class="bar"><div style="width:{100 * f.part:.1f}%;background:{colour}"></div></div>'
    )
    reused = f" ({f.reused} reused)" if f.reused else ""
    items = f"{f.done} of {f.total}{reused}" if f.total else ""
    cells = (items, duration(f.elapsed_s), f.speed(), f.left())
    numbers = "".join(f'<td class="number">{escape(text)}</td>' for text in cells)
    return f"<tr><td>{escape(f.stage)}</td><td>{bar}</td>{numbers}</tr>"
