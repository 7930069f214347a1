// Two measured axes: a dot a model with its name beside it, or a line through the points of each series.
import * as Plot from "@observablehq/plot";
import type { ChartData } from "../ipc";
import { drawn, tickText } from "./axis";
import { symbol, type Drawing, type Look } from "./draw";
import { placeLabels } from "./labels";
import type { Spot } from "./spots";

const HEIGHT = 300;
const BOX = { left: 56, top: 28, bottom: HEIGHT - 46 };
const RIGHT = 16;
/** More points than this have no markers on a line. */
const CROWDED = 40;

export function plane(data: ChartData, all: Spot[], { width, identities }: Look): Drawing {
  const right = width - RIGHT;
  const y = drawn(
    data.y,
    all.flatMap((spot) => [spot.y, spot.lo ?? spot.y, spot.hi ?? spot.y]),
    BOX.bottom,
    BOX.top,
    5,
  );
  const x = drawn(
    data.x,
    all.map((spot) => spot.x),
    BOX.left,
    right,
    width < 420 ? 4 : 6,
  );
  const shown = all.filter((spot) => x.has(spot.x) && y.has(spot.y));
  const points = shown.filter((spot) => spot.kind === "measured");
  const withInterval = points.filter((spot) => spot.lo !== null && spot.hi !== null && y.has(spot.lo));
  const said = (kind: Spot["kind"]): Spot[] => shown.filter((spot) => spot.kind === kind);
  const colour = (spot: Spot): string => identities.of(spot.model).colour;
  const place = { x: (spot: Spot) => x.in(spot.x), y: (spot: Spot) => y.in(spot.y) };
  const marker = (spot: Spot): Plot.SymbolImplementation => symbol(identities.of(spot.model));
  const mark = (kind: "published" | "claimed"): Plot.Markish =>
    Plot.dot(said(kind), {
      className: kind,
      ...place,
      symbol: marker,
      fill: "none",
      stroke: "var(--ink)",
      strokeWidth: 1.5,
      strokeDasharray: kind === "claimed" ? "2 2" : undefined,
    });
  // A line is named at its end, if there are several, and a dot at its place.
  const ends = data.series.length === 1 ? [] : points.filter((spot, at) => points[at + 1]?.name !== spot.name);
  const named = data.form === "line" ? ends : points;
  // Markers of many points on a line would hide it.
  const crowded = data.form === "line" && points.length > CROWDED;
  const ticks = { className: "ticks", tickSize: 0 } as const;

  return {
    options: {
      height: HEIGHT,
      marginTop: BOX.top,
      marginBottom: HEIGHT - BOX.bottom,
      marginLeft: BOX.left,
      marginRight: RIGHT,
      x: { axis: null, type: x.scale.type, domain: [x.scale.min, x.scale.max] },
      y: { axis: null, type: y.scale.type, domain: [y.scale.min, y.scale.max] },
      marks: [
        Plot.ruleX(x.scale.ticks, { stroke: "var(--line)" }),
        Plot.ruleY(y.scale.ticks, { stroke: "var(--line)" }),
        Plot.axisX(x.scale.ticks, {
          ...ticks,
          anchor: "bottom",
          tickFormat: (tick: number) => tickText(tick, x.scale),
          label: x.title,
          labelAnchor: "center",
          labelArrow: "none",
          labelOffset: 38,
        }),
        Plot.axisY(y.scale.ticks, {
          ...ticks,
          anchor: "left",
          tickFormat: (tick: number) => tickText(tick, y.scale),
          label: y.title,
          labelAnchor: "top",
          labelArrow: "none",
          labelOffset: BOX.left,
        }),
        ...(data.y.reference === null
          ? []
          : [
              Plot.ruleY([y.in(data.y.reference.value)], { stroke: "var(--ink-soft)", strokeDasharray: "4 3" }),
              Plot.text([y.in(data.y.reference.value)], {
                className: "ticks",
                y: (value: number) => value,
                frameAnchor: "left",
                textAnchor: "start",
                dx: 4,
                dy: -8,
                text: [data.y.reference.label],
              }),
            ]),
        ...(data.x.reference === null
          ? []
          : [
              Plot.ruleX([x.in(data.x.reference.value)], { stroke: "var(--ink-soft)", strokeDasharray: "4 3" }),
              Plot.text([x.in(data.x.reference.value)], {
                className: "ticks",
                x: (value: number) => value,
                frameAnchor: "top",
                textAnchor: "start",
                dx: 4,
                dy: 8,
                text: [data.x.reference.label],
              }),
            ]),
        Plot.ruleX(withInterval, {
          className: "intervals",
          x: place.x,
          y1: (spot: Spot) => y.in(spot.lo ?? spot.y),
          y2: (spot: Spot) => y.in(spot.hi ?? spot.y),
          stroke: colour,
          strokeWidth: data.form === "line" ? 1.5 : 3,
        }),
        ...(data.form === "line"
          ? [false, true].map((dashed) =>
              Plot.line(
                points.filter((spot) => spot.dashed === dashed),
                { className: "lines", ...place, z: "name", stroke: colour, strokeWidth: 2, strokeDasharray: dashed ? "6 4" : undefined },
              ),
            )
          : []),
        Plot.dot(points, { className: "hits", ...place, r: 14, fill: "transparent", stroke: "none" }),
        Plot.dot(
          points,
          crowded
            ? { className: "points", ...place, r: 1.5, fill: colour, stroke: "none" }
            : { className: "points", ...place, symbol: marker, fill: (spot: Spot) => (spot.dashed ? "var(--surface)" : colour(spot)), stroke: "var(--ink)", strokeWidth: 1 },
        ),
        mark("published"),
        mark("claimed"),
        (_index, _scales, _values, _dimensions, context) => {
          const group = context.document.createElementNS("http://www.w3.org/2000/svg", "g");
          group.setAttribute("class", "dotnames");
          const labels = placeLabels(
            named.map((spot) => ({ x: x.at(spot.x), y: y.at(spot.y), text: spot.name })),
            { left: BOX.left, right, top: BOX.top, bottom: BOX.bottom },
          );
          labels.forEach((label, at) => {
            const text = context.document.createElementNS("http://www.w3.org/2000/svg", "text");
            text.setAttribute("x", String(label.x));
            text.setAttribute("y", String(label.y));
            text.setAttribute("text-anchor", label.anchor);
            text.textContent = named[at]?.name ?? "";
            group.append(text);
          });
          return group;
        },
      ],
    },
    shapes: { hits: points, points, published: said("published"), claimed: said("claimed") },
  };
}
