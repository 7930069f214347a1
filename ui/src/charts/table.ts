// The data of a chart as a table: every point, with the interval, in the units of the axes. The same values that are
// drawn; a test compares the two.
import { measured, range } from "../format";
import type { ChartData } from "../ipc";

export interface TableRow {
  model: string;
  name: string;
  x: string;
  y: string;
  interval: string;
}

/** Rows in the order of series and points. */
export function tableRows(data: ChartData): TableRow[] {
  return data.series.flatMap((series) =>
    series.points.map((point) => ({
      model: series.model,
      name: series.name,
      x: data.form === "dots" ? (data.x.categories[point.x] ?? String(point.x)) : measured(point.x, data.x.unit),
      y: measured(point.y, data.y.unit),
      interval: range(point.y, point.lo, point.hi, data.y.unit),
    })),
  );
}

/** Whether the categories only repeat the names of the series, so that one column tells both. */
export function categoriesAreNames(data: ChartData): boolean {
  return (
    data.form === "dots" &&
    data.series.every((series) => series.points.every((point) => data.x.categories[point.x] === series.name))
  );
}
