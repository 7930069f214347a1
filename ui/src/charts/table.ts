// The data of a chart as a table: every spot, with the interval, in the units of the axes; a heat map as the grid it is.
import { measured, range } from "../format";
import type { ChartData } from "../ipc";
import { onAxis, readable, spots, type Spot } from "./spots";

export interface TableRow {
  spot: Spot;
  x: string;
  y: string;
  interval: string;
}

/** Rows in the order of the spots. */
export function tableRows(data: ChartData): TableRow[] {
  return spots(data).map((spot) => ({
    spot,
    x: onAxis(data.x, spot.x),
    y: onAxis(data.y, spot.y),
    interval: range(spot.y, spot.lo, spot.hi, data.y.unit),
  }));
}

export interface Grid {
  columns: string[];
  rows: { name: string; cells: string[] }[];
  /** The columns are the chart's vertical axis. */
  flipped: boolean;
}

/** A heat map's longer axis runs down, so that its names can be read. */
export function grid(data: ChartData): Grid {
  const flipped = data.x.categories.length > data.y.categories.length;
  const [across, down] = flipped ? [data.y, data.x] : [data.x, data.y];
  const value = new Map(
    spots(data).map((spot) => [flipped ? `${spot.y} ${spot.x}` : `${spot.x} ${spot.y}`, spot.value]),
  );
  return {
    columns: across.categories.map(readable),
    rows: down.categories.map((name, row) => ({
      name: readable(name),
      cells: across.categories.map((_, column) => {
        const found = value.get(`${column} ${row}`) ?? null;
        return found === null ? "–" : measured(found, data.value?.unit ?? "");
      }),
    })),
    flipped,
  };
}
