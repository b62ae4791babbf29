#!/usr/bin/env python3
"""Draws the dashboard's panels from a live Prometheus: `make picture`.

    picture.py http://127.0.0.1:9090 docs/dashboard.png

This is not Grafana's own rendering: panels stand where the dashboard puts them, with its expressions, units and thresholds,
drawn by matplotlib.
"""

import json
import pathlib
import re
import sys
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402

DASHBOARD = pathlib.Path(__file__).parent / "dashboards" / "overview.json"
COLORS = {"green": "#56a64b", "orange": "#ff9830", "red": "#e02f44"}
LINES = ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0", "#37872d", "#fade2a"]
BACK, PANEL, TEXT, FAINT = "#111217", "#181b1f", "#d8d9da", "#8e9099"
STEPS = 240
INCH_PER_COLUMN, INCH_PER_ROW = 0.62, 0.3


def ask(server, path, **parameters):
    url = f"{server}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)["data"]


class Data:
    """All that this Prometheus has seen."""

    def __init__(self, server):
        self.server, self.end = server, time.time()
        first = ask(server, "query", query='min(min_over_time(timestamp(up{job="lockkeeper"})[1h:1s]))')
        self.start = float(first["result"][0]["value"][1])
        self.step = max(1, (self.end - self.start) / STEPS)

    def series(self, target):
        window = f"{int(self.end - self.start)}s"
        expr = target["expr"].replace("$__rate_interval", "10s").replace("$__range", window)
        expr = expr.replace("$job", ".+").replace("$instance", ".+")
        data = ask(self.server, "query_range", query=expr, start=self.start, end=self.end, step=self.step)
        found = []
        for one in data["result"]:
            label = re.sub(r"{{(\w+)}}", lambda name, of=one: of["metric"].get(name[1], ""), target["legendFormat"])
            points = [(float(at) - self.start, float(value)) for at, value in one["values"]]
            found.append((label, points))
        return found


def shown(value, unit):
    if value != value:
        return "–"
    if unit == "bool_yes_no":
        return "yes" if value else "no"
    if unit == "percentunit":
        return f"{value:.0%}"
    if unit == "s":
        size = abs(value)
        return f"{value:.1f} s" if size >= 1 else f"{value * 1e3:.0f} ms" if size >= 1e-3 or not size else f"{value * 1e6:.0f} µs"
    suffix = {"bytes": " B", "cps": " /s"}.get(unit, "")
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.1f} {letter}{suffix.strip()}"
    return (f"{value:.0f}" if value == int(value) else f"{value:.1f}") + suffix


def color(panel, value):
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    chosen = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return COLORS[chosen[-1]]


def stat(axes, panel, series):
    values = [(label, points[-1][1]) for label, points in series if points]
    axes.axis("off")
    loud = panel["options"]["colorMode"] == "background"
    if loud and values:
        axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, color=color(panel, values[0][1])))
    unit = panel["fieldConfig"]["defaults"]["unit"]
    text = "\n".join(f"{label}  {shown(value, unit)}" if label else shown(value, unit) for label, value in values[:3])
    axes.text(0.5, 0.45, text or "no data", ha="center", va="center", transform=axes.transAxes, color="white",
              fontsize=17 if len(values) < 2 and not values[0][0] else 11, weight="bold")


def lines(axes, panel, series):
    unit = panel["fieldConfig"]["defaults"]["unit"]
    stack = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    series = [(label, [(at, value) for at, value in points if value == value]) for label, points in series]
    series = [one for one in series if one[1]]
    if stack and series:
        times = sorted({at for _, points in series for at, _ in points})
        heights = [[dict(points).get(at, 0) for at in times] for _, points in series]
        axes.stackplot(times, heights, colors=LINES, alpha=0.6, labels=[label for label, _ in series])
    else:
        for number, (label, points) in enumerate(series):
            axes.plot(*zip(*points), color=LINES[number % len(LINES)], linewidth=0.9, label=label)
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        if step["value"] is not None and axes.get_ylim()[0] <= step["value"] <= axes.get_ylim()[1]:
            axes.axhline(step["value"], color=COLORS[step["color"]], linewidth=0.6, linestyle="--")
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    axes.yaxis.set_major_locator(plt.MaxNLocator(4))
    if unit == "bool_yes_no":
        axes.set_ylim(-0.05, 1.05)
        axes.set_yticks([0, 1])
    axes.yaxis.set_major_formatter(lambda value, _: shown(value, unit))
    if 0 < len(series) <= 24:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=3, fontsize=4.6, frameon=False,
                    labelcolor=FAINT, handlelength=1, columnspacing=1)


def timeline(axes, panel, series, data):
    for row, (label, points) in enumerate(series):
        for at, value in points:
            axes.add_patch(Rectangle((at, row + 0.1), data.step * 1.02, 0.8, color=color(panel, value), linewidth=0))
        axes.text(2, row + 0.5, label, color="white", va="center", fontsize=6.5)
    axes.set_ylim(0, max(1, len(series)))
    axes.set_yticks([])


def heatmap(axes, series):
    bounds = sorted(((float(label), dict(points)) for label, points in series), key=lambda one: one[0])
    times = sorted({at for _, points in bounds for at in points})
    cells, below = [], [0.0] * len(times)
    for _, points in bounds:
        sums = [points.get(at, 0.0) for at in times]
        cells.append([max(0.0, total - less) for total, less in zip(sums, below)])
        below = sums
    axes.pcolormesh(times, range(len(cells)), [[cell ** 0.5 for cell in row] for row in cells], cmap="inferno",
                    shading="nearest")
    axes.set_yticks(range(len(bounds)), [shown(bound, "s") if bound != float("inf") else "∞" for bound, _ in bounds])


def draw(server, to):
    data, dashboard = Data(server), json.loads(DASHBOARD.read_text())
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]) + 1
    width, height = 24 * INCH_PER_COLUMN, rows * INCH_PER_ROW
    plt.rcParams.update({"font.size": 6, "text.color": TEXT, "axes.labelcolor": FAINT, "xtick.color": FAINT,
                         "ytick.color": FAINT, "axes.edgecolor": "#2c3235", "axes.facecolor": PANEL})
    figure = plt.figure(figsize=(width, height), facecolor=BACK)
    note = f"{dashboard['title']}: {data.end - data.start:.0f} s of make observability. Drawn by grafana/picture.py, not by Grafana"
    figure.text(0.006, 1 - 0.55 / rows, note, fontsize=9, weight="bold", va="center")
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        left, bottom = place["x"] / 24, 1 - (place["y"] + place["h"] + 1) / rows
        wide, high = place["w"] / 24, place["h"] / rows
        if panel["type"] == "row":
            figure.text(left + 0.006, bottom + high / 2, f"▾ {panel['title']}", fontsize=9, weight="bold", va="center")
            continue
        figure.patches.append(Rectangle((left + 0.002, bottom + 0.12 / rows), wide - 0.004, high - 0.24 / rows,
                                        transform=figure.transFigure, facecolor=PANEL, edgecolor="#2c3235", zorder=-1))
        figure.text(left + 0.007, bottom + high - 0.55 / rows, panel["title"], fontsize=7, weight="bold", va="center")
        series = [one for target in panel["targets"] for one in data.series(target)]
        if panel["type"] == "stat":
            box = [left + 0.006, bottom + 0.4 / rows, wide - 0.012, high - 1.5 / rows]
            stat(figure.add_axes(box), panel, series)
            continue
        box = [left + 0.033, bottom + 1.9 / rows, wide - 0.041, high - 2.9 / rows]
        axes = figure.add_axes(box)
        axes.set_xlim(0, data.end - data.start)
        axes.tick_params(length=0, labelsize=5, pad=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} s")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#2c3235", linewidth=0.4)
        if panel["type"] == "timeseries":
            lines(axes, panel, series)
        elif panel["type"] == "state-timeline":
            timeline(axes, panel, series, data)
        else:
            heatmap(axes, series)
    figure.savefig(to, dpi=100, facecolor=BACK, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    draw(*sys.argv[1:])
