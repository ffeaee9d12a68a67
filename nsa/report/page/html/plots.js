// The plots, drawn by Observable Plot of the figures that the page carries; each follows the width of its place.
"use strict";

const figures = JSON.parse(document.getElementById("plots").textContent);
const PARTS = ["fixed", "cmp", "route", "sel", "win"];
const part = (name) => `var(--${name})`;
const style = { background: "transparent", color: "var(--ink)", fontSize: "12px" };
const tip = { fill: "var(--raised)", stroke: "var(--line)" };

function drawParts(width) {
  const contexts = [...new Set(figures.totals.map((d) => d.S))];
  const backends = [...new Set(figures.totals.map((d) => d.backend))];
  const longest = Math.max(...figures.totals.map((d) => d.high ?? d.ms ?? 0), ...figures.parts.map((d) => d.start + d.ms));
  const place = { y: "backend", fy: "S" };
  const apart = figures.totals.filter((d) => d.parts_ms !== null);
  const beyond = (d) => `≠ ${d.parts_ms > d.ms ? "+" : "−"}${Math.abs(100 * (d.parts_ms / d.ms - 1)).toFixed(0)} %`;
  const note = (d) => [d.parts_ms === null ? "" : beyond(d), d.blocked ? "✕ blocked" : ""].filter(Boolean).join(" ");
  const said = figures.totals.filter((d) => d.ms !== null && note(d));
  const ends = (d) => Math.max(d.ms, ...figures.parts.filter((each) => each.S === d.S && each.backend === d.backend).map((each) => each.start + each.ms));
  const whole = (d) => !apart.some((each) => each.S === d.S && each.backend === d.backend);
  const letters = (words) => Math.max(...words.map((word) => word.length));
  const names = 18 + 7 * letters(backends); // px, of the backends beside their bars
  const marginLeft = names + 8 + 9 * letters(contexts.map((S) => `S=${S}`)), marginRight = 20 + 7 * letters(["", ...said.map(note)]);
  const usable = width - marginLeft - marginRight;
  const marked = (d) => figures.totals.some((each) => each.S === d.S && each.backend === d.backend && (Math.abs(each.ms - d.start - d.ms / 2) / longest) * usable < 22);
  return Plot.plot({
    width, style, height: 62 + contexts.length * (22 * backends.length + 14), marginLeft, marginRight, marginTop: 42,
    x: { label: "ms of one decode step", axis: "top", labelAnchor: "center", labelArrow: "none", grid: true, domain: [0, 1.02 * longest] },
    y: { domain: backends, label: null, padding: 0.15 },
    fy: { domain: contexts, axis: null, padding: 14 / (22 * backends.length + 14) },
    marks: [
      Plot.axisFy({ anchor: "left", label: null, dx: -names, fontWeight: 600, tickSize: 0, tickFormat: (S) => `S=${S}` }),
      Plot.barX(figures.parts, { x1: "start", x2: (d) => d.start + d.ms, ...place, fill: (d) => part(d.part), fillOpacity: (d) => (whole(d) ? 1 : 0.4), insetRight: 0.5 }),
      Plot.text(figures.parts.filter((d) => whole(d) && !marked(d) && (d.ms / longest) * usable > 34), {
        x: (d) => d.start + d.ms / 2, ...place, text: "part", fill: "var(--on-part)",
      }),
      Plot.barX(apart, { x1: 0, x2: "ms", ...place, fill: "none", stroke: "var(--ink)", strokeWidth: 1.5 }),
      Plot.text(said, {
        x: ends, ...place, text: note, textAnchor: "start", dx: 8, fill: (d) => (d.blocked ? "var(--bad)" : "var(--ink)"),
      }),
      Plot.ruleY(figures.totals.filter((d) => d.low !== null), { x1: "low", x2: "high", ...place, stroke: "var(--ink)", strokeWidth: 2 }),
      Plot.dot(figures.totals.filter((d) => d.ms !== null), {
        x: "ms", ...place, symbol: "diamond", fill: "var(--ink)", stroke: "var(--ground)", r: 5,
      }),
      Plot.text(figures.totals.filter((d) => d.ms === null), {
        x: 0, ...place, text: (d) => `✕ ${d.text}`, textAnchor: "start", dx: 4, fill: "var(--bad)",
      }),
      Plot.tip(figures.parts, Plot.pointer({
        x1: "start", x2: (d) => d.start + d.ms, ...place, title: (d) => `S = ${d.S}, ${d.backend}\n${d.part}: ${d.text}`, ...tip,
      })),
    ],
  });
}

function drawCeilings(width) {
  const contexts = [...new Set(figures.ceilings.map((d) => d.S))];
  const most = Math.max(...figures.ceilings.map((d) => d.high ?? d.value));
  return Plot.plot({
    width: Math.min(width, 900), style, marginLeft: 60, marginRight: 80, marginTop: 42,
    height: 62 + contexts.length * (16 * PARTS.length + 18),
    x: { label: "times as fast without the part", axis: "top", labelAnchor: "center", labelArrow: "none", grid: true, domain: [1, Math.max(most * 1.03, 1.1)], clamp: true },
    y: { domain: PARTS, label: null, padding: 0.2 },
    fy: { domain: contexts, label: null, axis: "right", tickFormat: (S) => `S = ${S}` },
    marks: [
      Plot.barX(figures.ceilings, { x1: 1, x2: "value", y: "part", fy: "S", fill: (d) => part(d.part) }),
      Plot.ruleY(figures.ceilings.filter((d) => d.low !== null), { x1: "low", x2: "high", y: "part", fy: "S", stroke: "var(--ink)", strokeWidth: 2 }),
      Plot.ruleX([1], { stroke: "var(--ink)" }),
      Plot.tip(figures.ceilings, Plot.pointer({ x: "value", y: "part", fy: "S", title: (d) => `S = ${d.S}, without ${d.part}: ${d.text}`, ...tip })),
    ],
  });
}

function drawBandwidths(width) {
  const backends = [...new Set(figures.bandwidths.map((d) => d.backend))];
  const sizes = [...new Set(figures.bandwidths.map((d) => d.rows))].sort((a, b) => a - b);
  return Plot.plot({
    width: Math.min(width, 900), style, marginLeft: 80, marginRight: 70, marginTop: 42,
    height: 62 + backends.length * (26 * sizes.length + 14),
    x: { label: "% of the roof", axis: "top", labelAnchor: "center", labelArrow: "none", grid: true, domain: [0, Math.max(100, ...figures.bandwidths.map((d) => d.percent))] },
    y: { domain: sizes, type: "band", label: null, tickFormat: (N) => `N=${N}` },
    fy: { domain: backends, label: null, axis: "right" },
    marks: [
      Plot.ruleX([100], { stroke: "var(--ink)", strokeWidth: 2 }),
      Plot.tickX(figures.bandwidths, {
        x: "percent", y: "rows", fy: "backend", strokeWidth: 2, stroke: (d) => `var(--series${backends.indexOf(d.backend) % 5})`,
      }),
      Plot.tip(figures.bandwidths, Plot.pointer({
        x: "percent", y: "rows", fy: "backend", title: (d) => `${d.backend}, ${d.shape}\n${d.percent.toFixed(1)} % of the roof`, ...tip,
      })),
    ],
  });
}

function drawDense(width) {
  const backends = [...new Set(figures.dense.map((d) => d.backend))];
  const shapes = [...new Set(figures.dense.map((d) => d.shape))];
  const same = (word) => shapes.every((shape) => shape.split(" ").includes(word));
  const short = (shape) => shape.split(" ").filter((word) => !same(word)).join(" ") || shape;
  const colour = (d) => `var(--series${backends.indexOf(d.backend) % 5})`;
  const most = Math.max(1.1, ...figures.dense.map((d) => d.high ?? d.value));
  const names = 24 + 7 * Math.max(...shapes.map((shape) => short(shape).length)); // px, of the shapes beside their dots
  const place = { y: "shape", fy: "backend" };
  return Plot.plot({
    width: Math.min(width, 900), style, marginLeft: names, marginRight: 70, marginTop: 42,
    height: 62 + backends.length * (20 * shapes.length + 14),
    x: { label: "times as fast as dense attention", axis: "top", labelAnchor: "center", labelArrow: "none", grid: true, domain: [0, 1.03 * most] },
    y: { domain: shapes, label: null, tickFormat: short },
    fy: { domain: backends, label: null, axis: "right" },
    marks: [
      Plot.ruleX([1], { stroke: "var(--ink)", strokeDasharray: "4 3" }),
      Plot.ruleY(figures.dense.filter((d) => d.low !== null), { x1: "low", x2: "high", ...place, stroke: colour, strokeWidth: 2 }),
      Plot.dot(figures.dense, { x: "value", ...place, fill: colour, stroke: "var(--ground)", r: 4 }),
      Plot.tip(figures.dense, Plot.pointer({
        x: "value", ...place, title: (d) => `${d.backend}, ${d.shape}\n${d.text} times as fast as dense`, ...tip,
      })),
    ],
  });
}

function drawHistory(width) {
  const names = [...new Set(figures.history.map((d) => d.series))];
  const columns = Math.max(1, Math.floor(width / 260)), lines = Math.ceil(names.length / columns);
  const panel = (d) => names.indexOf(d.series);
  const place = { fx: (d) => panel(d) % columns, fy: (d) => Math.floor(panel(d) / columns) };
  const titles = names.map((series) => ({ series }));
  const ends = figures.history.flatMap((d) => [d.low ?? d.change, d.high ?? d.change, -2, 2]);
  const runs = [...new Set(figures.history.map((d) => d.place))].sort((a, b) => a - b);
  const colour = (d) => (d.surely === "slower" ? "var(--bad)" : d.surely === "faster" ? "var(--good)" : "var(--ink)");
  const mark = (d) => (d.accepted ? "◆" : d.surely === "slower" ? "▲" : d.surely === "faster" ? "▼" : "●");
  return Plot.plot({
    width, style, height: 30 + 130 * lines, marginLeft: 48, marginRight: 12, marginTop: 24, marginBottom: 14,
    x: { domain: runs, type: "point", axis: null, padding: 0.6 },
    y: { domain: [Math.min(...ends), Math.max(...ends)], label: "% since the reference", labelArrow: "none", grid: true, nice: true, ticks: 4, insetTop: 20 },
    fx: { axis: null, padding: 0.08 },
    fy: { axis: null, padding: 0.12 },
    marks: [
      Plot.text(titles, { ...place, text: "series", frameAnchor: "top-left", fontWeight: 600 }),
      Plot.ruleY([0], { stroke: "var(--ink)" }),
      Plot.ruleX(figures.history.filter((d) => d.low !== null), { x: "place", y1: "low", y2: "high", ...place, stroke: colour, strokeWidth: 2 }),
      Plot.text(figures.history, { x: "place", y: "change", ...place, text: mark, fill: colour, fontSize: 13 }),
      Plot.tip(figures.history, Plot.pointer({ x: "place", y: "change", ...place, title: "text", ...tip })),
    ],
  });
}

const DRAWN = { parts: drawParts, ceilings: drawCeilings, bandwidths: drawBandwidths, dense: drawDense, history: drawHistory };

function draw(place) {
  place.replaceChildren(DRAWN[place.dataset.plot](Math.max(place.clientWidth, 300)));
}

const sizes = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    if (Math.abs(contentRect.width - (target.drawn ?? 0)) < 2) continue; // drawing does not change its own width
    target.drawn = contentRect.width;
    draw(target);
  }
});
for (const place of document.querySelectorAll("[data-plot]")) sizes.observe(place);
