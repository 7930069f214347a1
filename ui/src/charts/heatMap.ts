// A cell for each pair of categories, its colour for the value. The longer axis runs down.
import * as Plot from "@observablehq/plot";
import type { ChartData } from "../ipc";
import { measured } from "../format";
import type { Drawing, Look } from "./draw";
import type { Spot } from "./spots";
import { grid } from "./table";

const ROW = 20;
const TOP = 26;
const LETTER = 6.7;
const WIDEST_CELL = 160;

/** Smallest and largest value of the colours. */
export function heatRange(data: ChartData, all: Spot[]): [number, number] {
  const values = all.flatMap((spot) => (spot.value === null ? [] : [spot.value]));
  const low = data.value?.min ?? Math.min(...values);
  return [low, Math.max(low, ...values)];
}

export function heatMap(data: ChartData, all: Spot[], { width }: Look): Drawing {
  const { columns, rows, flipped } = grid(data);
  const cells = all.filter((spot) => spot.value !== null);
  const column = (spot: Spot): number => (flipped ? spot.y : spot.x);
  const row = (spot: Spot): number => (flipped ? spot.x : spot.y);
  const [low, high] = heatRange(data, cells);
  const share = (spot: Spot): number => (high > low ? ((spot.value ?? low) - low) / (high - low) : 0.5);

  const longest = Math.max(4, ...rows.map(({ name }) => name.length));
  const left = Math.min(longest * LETTER + 12, width * 0.45);
  const cell = Math.min(WIDEST_CELL, (width - left) / Math.max(1, columns.length));
  const cut = (text: string, room: number): string => {
    const letters = Math.max(2, Math.floor(room / LETTER));
    return text.length > letters ? `${text.slice(0, letters - 1)}…` : text;
  };
  const text = (spot: Spot): string => measured(spot.value ?? low, data.value?.unit ?? "").replace(/\u202f.*$/, "");
  const span = (length: number): number[] => Array.from({ length }, (_, at) => at);

  return {
    options: {
      height: TOP + rows.length * ROW + 4,
      marginTop: TOP,
      marginBottom: 4,
      marginLeft: left,
      marginRight: Math.max(0, width - left - cell * columns.length),
      x: { axis: null, type: "band", domain: span(columns.length), padding: 0 },
      y: { axis: null, type: "band", domain: span(rows.length), padding: 0 },
      color: { type: "identity" },
      marks: [
        Plot.text(columns, {
          className: "names",
          x: (_: string, at: number) => at,
          frameAnchor: "top",
          dy: -12,
          text: (name: string) => cut(name, cell - 8),
          title: (name: string) => name,
        }),
        Plot.text(rows, {
          className: "names",
          y: (_: unknown, at: number) => at,
          frameAnchor: "left",
          textAnchor: "end",
          dx: -8,
          text: ({ name }: { name: string }) => cut(name, left - 12),
          title: "name",
        }),
        Plot.cell(cells, {
          className: "cells",
          x: column,
          y: row,
          inset: 0.5,
          fill: (spot: Spot) => `color-mix(in oklab, var(--heat-high) ${(share(spot) * 100).toFixed(1)}%, var(--heat-low))`,
        }),
        ...(cell < 36
          ? []
          : [
              Plot.text(cells, {
                className: "cellvalues",
                x: column,
                y: row,
                text,
                fill: (spot: Spot) => (share(spot) > 0.5 ? "var(--heat-ink)" : "var(--ink)"),
              }),
            ]),
      ],
    },
    shapes: { cells },
  };
}
