#!/usr/bin/env python3
"""Draws the charts beside docs/performance.md, and prints the tables with them, from what `lockkeeper bench all --json` has written.

    bench/charts.py results.json docs/performance > tables.md

One SVG per scenario: a bar for each contender's median, and a line from its lowest to its highest round.
"""
import html
import json
import pathlib
import statistics
import sys

NAMES = {
    "Lockkeeper": "lockkeeper", "LockkeeperOneNode": "lockkeeper, 1 lock node", "Original": "original stack",
    "Rust": "plain Rust", "Limit": "limit of the rows", "Floor": "floor",
}
COLORS = {"Lockkeeper": "#2b6cb0", "LockkeeperOneNode": "#63a4dc", "Limit": "#718096"}
OTHER = "#c05621"
WIDTH, LEFT, RIGHT, STEP, TOP = 760, 190, 110, 30, 44


def key(name):
    """The contender's name as the tables have it, however the JSON spells it."""
    return next((known for known in NAMES if known.lower() == name.replace("_", "").replace("-", "").lower()), name)


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"


def chart(title, unit, bars):
    """A horizontal bar chart; each of `bars` has a label, a colour and the figures of its rounds."""
    most = max(max(figures) for _, _, figures in bars)
    scale = (WIDTH - LEFT - RIGHT) / most
    height = TOP + STEP * len(bars) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="12" y="24" font-size="15" font-weight="bold">{html.escape(title)}</text>',
        f'<text x="{WIDTH - 12}" y="24" text-anchor="end" fill="#555">{html.escape(unit)}</text>',
    ]
    for place, (label, color, figures) in enumerate(bars):
        top, middle = TOP + STEP * place, statistics.median(figures)
        low, high = (LEFT + scale * end for end in (min(figures), max(figures)))
        line = top + 10
        parts += [
            f'<text x="{LEFT - 8}" y="{top + 15}" text-anchor="end">{html.escape(label)}</text>',
            f'<rect x="{LEFT}" y="{top}" width="{max(scale * middle, 1):.1f}" height="20" fill="{color}"/>',
            f'<path d="M{low:.1f} {line}H{high:.1f}M{low:.1f} {line - 4}v8M{high:.1f} {line - 4}v8" stroke="#1a202c"/>',
            f'<text x="{max(high, LEFT + scale * middle) + 8:.1f}" y="{top + 15}">{number(middle)}</text>',
        ]
    return "\n".join(parts + ["</svg>\n"])


def row(cells):
    print("| " + " | ".join(cells) + " |")


def spread(figures):
    return f"{number(statistics.median(figures))} ({number(min(figures))} – {number(max(figures))})"


def throughput(scenario, cases, folder):
    row(["contender", "jobs/s, median (lowest – highest)", "CPU µs per job: itself", "broker", "lock nodes", "database", "peak MiB"])
    row(["---"] + ["---:"] * 6)
    bars = []
    for case in cases:
        who, rounds = key(case["who"]), case["measured"]
        rates = [run["jobs_per_second"] for run in rounds]
        cpu = [number(statistics.median(run["cpu_us"][part] for run in rounds)) for part in ("worker", "broker", "lock_nodes", "database")]
        row([NAMES.get(who, who), spread(rates)] + cpu + [number(max(run["peak_rss_mib"] for run in rounds))])
        bars.append((NAMES.get(who, who), COLORS.get(who, OTHER), rates))
    (folder / f"{scenario}.svg").write_text(chart(scenario, "jobs per second", bars))


def latency(cases, folder):
    row(["contender", "jobs/s", "p50 ms", "p99 ms", "p99.9 ms"])
    row(["---"] + ["---:"] * 4)
    bars = []
    for case in cases:
        who = key(case["who"])
        runs, from_due = ([run[part] for run in case["measured"] if part in run] for part in ("latency", "from_due"))
        of = lambda part, runs=runs: [run[part] for run in runs]
        parts = ("p50_ms", "p99_ms", "p999_ms")
        row([NAMES.get(who, who), str(case["rate"])] + [spread(of(part)) for part in parts])
        if from_due:
            row([f"{NAMES.get(who, who)}, from due", str(case["rate"])] + [spread(of(part, from_due)) for part in parts])
        if max(of("p99_ms")) < 1000:
            bars += [(f"{NAMES.get(who, who)}, {case['rate']}/s, {part[:3]}", COLORS.get(who, OTHER), of(part)) for part in ("p50_ms", "p99_ms")]
    (folder / "latency.svg").write_text(chart("latency, from the moment a job was due", "milliseconds", bars))


def locks(cases, folder):
    row(["nodes", "keys per call", "contender", "keys/s, median (lowest – highest)", "acquire p50 / p99 ms", "CPU µs per key: itself", "nodes"])
    row(["---", "---:", "---", "---:", "---:", "---:", "---:"])
    bars = []
    for case in cases:
        who, runs = "lockkeeper" if case["who"] == "ours" else case["who"], case["measured"]
        known = lambda part: [run[part] for run in runs if run[part] is not None]
        middle = lambda part, unit=1: number(statistics.median(known(part)) / unit) if known(part) else "–"
        rates = [run["keys_per_second"] for run in runs]
        nodes = f"{case['nodes']}, one frozen" if case["frozen"] else str(case["nodes"])
        row([nodes, str(case["keys"]), who, spread(rates), f"{middle('acquire_p50_us', 1000)} / {middle('acquire_p99_us', 1000)}", middle("contender_cpu_us"), middle("nodes_cpu_us")])
        label = f"{who}, {nodes}" + (f", {case['keys']} keys" if case["keys"] > 1 else "")
        bars.append((label, COLORS["Lockkeeper"] if case["who"] == "ours" else OTHER, rates))
    (folder / "locks.svg").write_text(chart("locks, by number of nodes", "keys acquired and released per second", bars))


def main():
    results, folder = json.loads(pathlib.Path(sys.argv[1]).read_text()), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    scenarios = {}
    for case in results["rows"]["cases"]:
        scenarios.setdefault(case["scenario"].lower(), []).append(case)
    versions = results["about"]["versions"]
    print(f"# Figures of `make performance`\n\n{results['settings']['rounds']} rounds; database {versions['database']}, Redis {versions['redis-server']}.")
    for scenario, cases in scenarios.items():
        print(f"\n## {scenario}\n\n![{scenario}]({scenario}.svg)\n")
        latency(cases, folder) if scenario == "latency" else throughput(scenario, cases, folder)
    if "locks" in results["rows"]:
        print("\n## locks\n\n![locks](locks.svg)\n")
        locks(results["rows"]["locks"], folder)
    print("\n## bars\n")
    row(["ratio", "median", "lowest – highest", "bar", ""])
    row(["---", "---:", "---:", "---:", "---"])
    for ratio in results["ratios"]:
        value = ratio["value"]
        row([ratio["name"], f"{value['median']:.2f}", f"{value['min']:.2f} – {value['max']:.2f}", f"{ratio['bar']:.2f}", "pass" if ratio["passed"] else "**miss**"])


if __name__ == "__main__":
    main()
