"""`report.html`: the whole report as one page, figures inside, which needs no network."""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from jinja2 import Environment
from matplotlib.figure import Figure

from experiments.report.arms import differing_settings
from experiments.report.figures import (
    EXPLAIN_INTERVALS,
    draw_curves,
    draw_improvement,
    explain_bands,
    inks_of,
)
from experiments.report.runs import Run
from experiments.report.scores import ALL, AREA, FINAL, HUMAN, RAW, Comparison, corrected
from experiments.report.tables import Report, all_runs, bounds
from experiments.statistics import LEVEL


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    """How many columns, from the left, hold words; the others hold numbers."""


@dataclass(frozen=True)
class Picture:
    """A figure in two shapes, as addresses that hold the data."""

    wide: str
    phone: str
    says: str
    """For those who cannot see it."""
    caption: str


def page(
    report: Report,
    words: Sequence[str],
    left_out: Sequence[str],
    pictures: Mapping[str, Sequence[Picture]],
    title: str = "",
) -> str:
    """Writes the page.

    Args:
        report: the numbers.
        words: the sentences that the terminal shows as well.
        left_out: why each run that is not part of the report was skipped, one sentence each.
        pictures: by game, from `draw_pictures`.
        title: of the page.

    Returns:
        HTML; the same report gives the same text.
    """
    runs = all_runs(report)
    envs = list(dict.fromkeys(row.env for row in report.summaries))
    games = [env for env in envs if env != ALL]
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(PAGE)
    return template.render(
        title=title or "Report",
        facts=_facts(report, runs, games),
        unfinished=[
            (run.path.stem, f"{run.steps / int(run.config['run']['steps']):.0%}")
            for run in runs
            if not run.finished
        ],
        legend=[
            (arm.name, ink.colour, _DASHES[ink.dashes])
            for arm, ink in zip(report.arms, inks_of(report.arms), strict=True)
        ],
        sections=[(env, pictures.get(env, ()), _scores(report, env)) for env in envs],
        tables=[*_tests(report), *(_settings(report, env) for env in games)],
        words=words,
        left_out=left_out,
        provenance=[_counts("commit", runs), _counts("hardware", runs), _counts("packages", runs)],
        runs=_runs(report),
        commands=[
            (arm.name, env, of_game[0].about.get("command", ""))
            for arm in report.arms
            for env, of_game in arm.runs.items()
        ],
    )


def _facts(report: Report, runs: Sequence[Run], games: Sequence[str]) -> str:
    """What was compared, in a line."""
    seeds = {len(of_game) for arm in report.arms for of_game in arm.runs.values()}
    each = f"{min(seeds)} to {max(seeds)}" if len(seeds) > 1 else f"{max(seeds)}"
    steps = max(run.steps for run in runs)
    return (
        f"{_number_of(len(report.arms), 'arm')} on {', '.join(games)}; "
        f"{_number_of(len(runs), 'run')}, {each} seed{'' if seeds == {1} else 's'} per arm; "
        f"up to {steps:,} agent steps each."
    )


def _number_of(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


_DASHES = {"-": "solid", "--": "dashed", ":": "dotted", "-.": "dashed"}
"""The styles of a border that come nearest to those of a line."""


def draw_pictures(report: Report, teacher: float | None = None) -> dict[str, list[Picture]]:
    """Draws the figures of each game, and of all games together.

    Args:
        report: the numbers.
        teacher: a score to draw a line at, besides those that the runs name.
    """
    found: dict[str, list[Picture]] = {}
    for env in dict.fromkeys(row.env for row in report.summaries):
        of_env = found.setdefault(env, [])
        if env != ALL:
            wide, phone = (
                _embedded(draw_curves(report.arms, teacher, (env,), each)) for each in (False, True)
            )
            says = f"{env}: return while training"
            of_env.append(Picture(wide, phone, says, explain_bands(report.arms)))
        if len(report.arms) > 1:
            wide, phone = (
                _embedded(draw_improvement(report, (env,), each)) for each in (False, True)
            )
            says = f"{env}: final return of each arm, and its probability of improvement"
            of_env.append(Picture(wide, phone, says, EXPLAIN_INTERVALS))
    return found


def _embedded(figure: Figure) -> str:
    file = io.BytesIO()
    # Without the date and random names, the same figure is the same text.
    with mpl.rc_context({"svg.hashsalt": "auxgate"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"


def _scores(report: Report, env: str) -> Table:
    """The final and the mean return of every arm."""
    rows = [row for row in report.summaries if row.env == env]
    unit = rows[0].unit
    human = {row.arm: row.iqm.value for row in rows if (row.unit, row.measure) == (HUMAN, FINAL)}
    shown = human if unit == RAW else {}
    whole = {row.arm: row.iqm for row in rows if (row.unit, row.measure) == (unit, AREA)}
    cells = [
        [
            row.arm,
            str(row.runs),
            f"{row.iqm.value:.2f}",
            bounds(row.iqm),
            f"{whole[row.arm].value:.2f}",
            bounds(whole[row.arm]),
            *([f"{100 * shown[row.arm]:.0f} %"] if shown else []),
        ]
        for row in rows
        if (row.unit, row.measure) == (unit, FINAL)
    ]
    interval = f"{100 * LEVEL:.0f} % interval"
    columns = ["arm", "runs", "final IQM", interval, "whole run IQM", interval]
    return Table(
        f"Returns ({unit})",
        "IQM: mean of the middle half of the runs. Whole run: mean return over all steps.",
        [*columns, *(["human"] if shown else [])],
        cells,
    )


def _tests(report: Report) -> list[Table]:
    """The first arm against each other one, corrected for the number of tests."""
    first = report.arms[0].name
    found = corrected(report.comparisons, first)
    if not found:
        return []
    cells = [
        [
            row.arm,
            row.env,
            f"{row.probability.value:.2f}",
            bounds(row.probability),
            "" if row.difference is None else f"{row.difference.value:+.2f}",
            "" if row.difference is None else bounds(row.difference),
            str(row.pairs),
            f"{row.p_value:.2g}",
            f"{p_value:.2g}",
            _verdict(row, p_value),
        ]
        for row, p_value in found
    ]
    interval = f"{100 * LEVEL:.0f} % interval"
    columns = ["arm", "game", "P(above)", interval, "difference", interval, "pairs"]
    note = (
        f"Every arm against '{first}', by where it ends. P(above): probability that a run of the "
        f"arm ends above one of '{first}'. Difference: mean over pairs of the same game and seed; "
        "p: its two-sided sign-flip test, which cannot be below 2 / 2^pairs; Holm: p corrected "
        "for the number of tests. A difference is shown where Holm's p is at most "
        f"{1 - LEVEL:.2f}."
    )
    return [Table("Tests", note, [*columns, "p", "Holm", "verdict"], cells, words=2)]


def _verdict(row: Comparison, p_value: float) -> str:
    if row.difference is None or p_value > 1 - LEVEL:
        return "not shown"
    return "higher" if row.difference.value > 0 else "lower"


def _settings(report: Report, env: str) -> Table:
    """The settings in which the arms of a game differ."""
    arms = [arm for arm in report.arms if env in arm.runs]
    values = differing_settings([arm.runs[env][0] for arm in arms])
    rows = [
        [arm.name, *(each[place] for each in values.values())] for place, arm in enumerate(arms)
    ]
    return Table(
        f"Settings that differ: {env}",
        "All other settings are the same for every arm; the commands below have them."
        if values
        else "The arms have the same settings.",
        ["arm", *(name.replace("_", " ") for name in values)],
        rows if values else [],
        words=1 + len(values),
    )


def _counts(what: str, runs: Sequence[Run]) -> tuple[str, list[tuple[str, int]]]:
    """The different values that the runs' first lines have for something, the commonest first."""
    return what, Counter(run.about.get(what, "unknown") for run in runs).most_common()


def _runs(report: Report) -> Table:
    rows = [
        [
            run.path.name,
            arm.name,
            env,
            str(run.seed),
            f"{run.steps:,}" + ("" if run.finished else " (unfinished)"),
            f"{run.final:.2f}",
            run.about.get("commit", "unknown")[:12],
        ]
        for arm in report.arms
        for env, of_game in arm.runs.items()
        for run in of_game
    ]
    columns = ("file", "arm", "game", "seed", "steps", "final return", "commit")
    return Table("", "", columns, rows, words=3)


PAGE = """\
{% macro table(it) %}
<div class="scroll"><table>
<thead><tr>{% for name in it.columns %}<th{% if loop.index > it.words %} class="number"\
{% endif %}>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in it.rows %}
<tr>{% for cell in row %}<td{% if loop.index > it.words %} class="number"{% endif %}>\
{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
{% endmacro %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem 1rem 4rem; color: #1b1b1b; background: #fff;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; border-bottom: 1px solid #ddd; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p, li { max-width: 44rem; }
ul { padding-left: 1.2rem; }
.note { color: #555; font-size: .875rem; margin: .25rem 0 .5rem; }
.warn { border-left: 4px solid #d55e00; background: #fdf3ec; padding: .5rem .75rem; }
.warn p { margin: .25rem 0; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; list-style: none; }
.legend i { display: inline-block; width: 1.75rem; border-top: 3px solid; vertical-align: middle;
  margin-right: .4rem; }
figure { margin: 1rem 0; }
figure img { display: block; width: 100%; height: auto; }
figcaption { display: none; color: #555; font-size: .8rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid #e5e5e5;
  vertical-align: top; }
th { color: #555; font-weight: 600; }
.number { text-align: right; white-space: nowrap; }
pre { background: #f6f6f6; padding: .5rem .75rem; white-space: pre-wrap; overflow-wrap: anywhere;
  font-size: .8rem; margin: .25rem 0 1rem; }
summary { cursor: pointer; font-weight: 600; margin: .75rem 0; }
dd { margin: 0 0 .5rem 0; overflow-wrap: anywhere; }
dt { font-weight: 600; }
@media (max-width: 640px) { figcaption { display: block; } td:first-child { min-width: 8rem; } }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>{{ facts }}</p>
{% if unfinished %}
<div class="warn"><p><strong>Not finished:</strong> {{ unfinished | length }} of the runs have not
done all their steps, so arms may be compared at different steps.</p>
<p class="note">{% for name, done in unfinished %}{{ name }} {{ done }}\
{{ "" if loop.last else ", " }}{% endfor %}</p></div>
{% endif %}
{% for env, pictures, scores in sections %}
<h2>{{ env }}</h2>
{% if env != "all games" %}
<ul class="legend">
{% for name, colour, dashes in legend %}
<li><i style="border-top-color: {{ colour }}; border-top-style: {{ dashes }}"></i>{{ name }}</li>
{% endfor %}
</ul>
{% endif %}
{% for picture in pictures %}
<figure><picture><source media="(max-width: 640px)" srcset="{{ picture.phone }}">
<img src="{{ picture.wide }}" alt="{{ picture.says }}"></picture>
<figcaption>{{ picture.caption }}</figcaption></figure>
{% endfor %}
<h3>{{ scores.title }}</h3>
<p class="note">{{ scores.note }}</p>
{{ table(scores) }}
{% endfor %}
<h2>What it says</h2>
<ul>
{% for sentence in words %}
<li>{{ sentence }}</li>
{% endfor %}
</ul>
{% for each in tables %}
<h2>{{ each.title }}</h2>
<p class="note">{{ each.note }}</p>
{% if each.rows %}
{{ table(each) }}
{% endif %}
{% endfor %}
<h2>Left out</h2>
{% if left_out %}
<ul>
{% for reason in left_out %}
<li>{{ reason }}.</li>
{% endfor %}
</ul>
{% else %}
<p>Nothing: every run that was given is part of the report.</p>
{% endif %}
<h2>Made with</h2>
<dl>
{% for what, values in provenance %}
<dt>{{ what }}</dt>
{% for value, count in values %}
<dd>{{ value }} <span class="note">({{ count }} run{{ "" if count == 1 else "s" }})</span></dd>
{% endfor %}
{% endfor %}
</dl>
<details><summary>Every run</summary>
{{ table(runs) }}
</details>
<details><summary>Commands</summary>
<p class="note">The first seed of each arm.</p>
{% for arm, env, command in commands %}
<p class="note">{{ arm }}, {{ env }}</p>
<pre>{{ command }}</pre>
{% endfor %}
</details>
</body>
</html>
"""
