// A dot with its interval for each category, and beside it what others say. Drawn lying down, so that names stand in
// full beside their row.
import * as Plot from "@observablehq/plot";
import { measured } from "../format";
import type { ChartData } from "../ipc";
import { drawn, tickText } from "./axis";
import { symbol, type Drawing, type Look } from "./draw";
import { readable, type Spot } from "./spots";

/** Height of a row, and of one among many. */
const LINE = 26;
const LOW_LINE = 18;
const MANY = 24;
const GAP = 6;
const TOP = 22;
const FOOT = 44;
const LETTER = 6.7;

export function dots(data: ChartData, all: Spot[], { width, identities }: Look): Drawing {
  const line = all.length > MANY ? LOW_LINE : LINE;
  const gap = all.length > MANY && data.series.length === 1 ? 0 : GAP;
  // A row for each model, and for each series of it, that has something in the category.
  const rowOf = (spot: Spot): string => (spot.dashed ? `${spot.model} ${spot.name}` : spot.model);
  let foot = TOP;
  const middle = new Map<string, number>();
  const groups = data.x.categories.map((name, category) => {
    const top = foot;
    const rows = [...new Set(all.filter((spot) => spot.x === category).map(rowOf))];
    rows.forEach((row, place) => middle.set(`${category} ${row}`, top + place * line + line / 2));
    foot = top + Math.max(1, rows.length) * line + gap;
    return { name: readable(name), y: (top + foot - gap) / 2 };
  });
  const y = (spot: Spot): number => middle.get(`${spot.x} ${rowOf(spot)}`) ?? TOP;

  const longest = Math.max(4, ...groups.map(({ name }) => name.length));
  const left = Math.min(longest * LETTER + 16, width * 0.4);
  const letters = Math.floor((left - 16) / LETTER);
  const cut = (name: string): string => (name.length > letters ? `${name.slice(0, letters - 1)}…` : name);
  const right = 78;
  const ends = all.flatMap((spot) => [spot.y, spot.lo ?? spot.y, spot.hi ?? spot.y]);
  const axis = drawn(data.y, ends, left, width - right, width < 420 ? 4 : 6);

  const shown = all.filter((spot) => axis.has(spot.y));
  const points = shown.filter((spot) => spot.kind === "measured");
  const withInterval = points.filter((spot) => spot.lo !== null && spot.hi !== null);
  const said = (kind: Spot["kind"]): Spot[] => shown.filter((spot) => spot.kind === kind);
  const colour = (spot: Spot): string => identities.of(spot.model).colour;
  const caps = (end: (spot: Spot) => number | null): Plot.Markish =>
    Plot.ruleX(withInterval, {
      x: (spot: Spot) => axis.in(end(spot) ?? spot.y),
      y1: (spot: Spot) => y(spot) - 4,
      y2: (spot: Spot) => y(spot) + 4,
      stroke: "var(--ink)",
    });
  const mark = (kind: "published" | "claimed"): Plot.Markish =>
    Plot.ruleX(said(kind), {
      className: kind,
      x: (spot: Spot) => axis.in(spot.y),
      y1: (spot: Spot) => y(spot) - 10,
      y2: (spot: Spot) => y(spot) + 10,
      stroke: "var(--ink)",
      strokeWidth: 2,
      strokeDasharray: kind === "claimed" ? "3 2" : undefined,
    });
  const reference = data.y.reference;

  return {
    options: {
      height: foot + FOOT,
      marginTop: TOP - 4,
      marginBottom: FOOT,
      marginLeft: left,
      marginRight: right,
      x: { axis: null, type: axis.scale.type, domain: [axis.scale.min, axis.scale.max] },
      y: { axis: null, type: "identity" },
      marks: [
        Plot.ruleX(axis.scale.ticks, { stroke: "var(--line)" }),
        Plot.axisX(axis.scale.ticks, {
          className: "ticks",
          anchor: "bottom",
          tickSize: 0,
          tickFormat: (tick: number) => tickText(tick, axis.scale),
          label: axis.title,
          labelAnchor: "center",
          labelArrow: "none",
          labelOffset: 36,
        }),
        ...(reference === null
          ? []
          : [
              Plot.ruleX([axis.in(reference.value)], { stroke: "var(--ink-soft)", strokeDasharray: "4 3" }),
              Plot.text([axis.in(reference.value)], { className: "ticks", x: (value: number) => value, frameAnchor: "top", dy: -12, text: () => reference.label }),
            ]),
        Plot.text(groups, {
          className: "names",
          frameAnchor: "left",
          textAnchor: "end",
          dx: -12,
          y: "y",
          text: ({ name }: { name: string }) => cut(name),
          title: "name",
        }),
        Plot.rect(points, { className: "hits", y1: (spot: Spot) => y(spot) - line / 2, y2: (spot: Spot) => y(spot) + line / 2, fill: "transparent" }),
        Plot.ruleY(withInterval, {
          className: "intervals",
          y,
          x1: (spot: Spot) => axis.in(spot.lo ?? spot.y),
          x2: (spot: Spot) => axis.in(spot.hi ?? spot.y),
          stroke: colour,
          strokeWidth: 3,
        }),
        caps((spot) => spot.lo),
        caps((spot) => spot.hi),
        Plot.dot(points, {
          className: "points",
          x: (spot: Spot) => axis.in(spot.y),
          y,
          symbol: (spot: Spot) => symbol(identities.of(spot.model)),
          fill: (spot: Spot) => (spot.dashed ? "var(--surface)" : colour(spot)),
          stroke: "var(--ink)",
          strokeWidth: 1,
        }),
        mark("published"),
        mark("claimed"),
        Plot.text(points, {
          className: "values",
          frameAnchor: "right",
          textAnchor: "end",
          dx: right,
          y,
          text: (spot: Spot) => measured(spot.y, data.y.unit),
        }),
      ],
    },
    shapes: { hits: points, points, published: said("published"), claimed: said("claimed") },
  };
}
