// Everything that a chart shows, flat: one spot for each measured point and each mark of what others say. The picture
// draws the spots, the table lists them and the tip tells them, so that all three say the same.
import { capital, count, measured, range } from "../format";
import type { Axis, ChartData, ReferenceKind } from "../ipc";

export interface Spot {
  /** Place in the list of all spots. */
  at: number;
  model: string;
  name: string;
  /** "measured", or who says it. */
  kind: "measured" | ReferenceKind;
  x: number;
  y: number;
  lo: number | null;
  hi: number | null;
  /** Of a heat map's cell. */
  value: number | null;
  /** Its line is dashed: a second series of the same model. */
  dashed: boolean;
  /** Where a published or claimed value stands. */
  source: string;
}

/** In the order of series; the points of a series before its marks. */
export function spots(data: ChartData): Spot[] {
  let at = 0;
  return data.series.flatMap(({ model, name, points, marks, dashed = false }) => [
    ...points.map((point): Spot => ({ at: at++, model, name, kind: "measured", source: "", dashed, ...point })),
    ...marks.map(
      ({ x, y, kind, label }): Spot => ({ at: at++, model, name, kind, x, y, lo: null, hi: null, value: null, source: label, dashed }),
    ),
  ]);
}

/** Whether the categories only repeat the names of the series, so that one column tells both. */
export function categoriesAreNames(data: ChartData): boolean {
  return (
    data.form === "dots" &&
    data.series.every((series) => series.points.every((point) => data.x.categories[point.x] === series.name))
  );
}

/** A value of an axis in words: the category, or the figure with its unit. */
export function onAxis(axis: Axis, value: number): string {
  if (axis.categories.length > 0) return readable(axis.categories[value] ?? String(value));
  // Step 0 stands at a place of its own on an axis of ratios, which has no zero; the axis names it.
  if (axis.log && axis.reference?.value === value) return axis.reference.label;
  // Training steps are counted, not measured.
  return axis.unit === "" && Number.isInteger(value) ? count(value) : measured(value, axis.unit);
}

/** Subjects are named as their files are: "us_foreign_policy". */
export function readable(category: string): string {
  return category.replaceAll("_", " ");
}

export interface SpotWords {
  title: string;
  lines: string[];
}

/** What the tip says of a spot. */
export function spotWords(data: ChartData, spot: Spot): SpotWords {
  const lines: string[] = [];
  if (data.form === "heat_map") {
    for (const axis of [data.x, data.y]) {
      const place = onAxis(axis, axis === data.x ? spot.x : spot.y);
      if (place !== spot.name) lines.push(place);
    }
    if (data.value !== null && spot.value !== null) {
      const words = `${data.value.label}: ${measured(spot.value, data.value.unit)}`;
      const interval = range(spot.value, spot.lo, spot.hi, data.value.unit);
      lines.push(interval === "" ? words : `${words} (${interval})`);
    }
    return { title: spot.name, lines };
  }
  if (!categoriesAreNames(data)) {
    const place = onAxis(data.x, spot.x);
    lines.push(data.x.categories.length > 0 ? place : `${data.x.label}: ${place}`);
  }
  const interval = range(spot.y, spot.lo, spot.hi, data.y.unit);
  const value = `${data.y.label}: ${measured(spot.y, data.y.unit)}`;
  lines.push(interval === "" ? value : `${value} (${interval})`);
  if (spot.kind !== "measured") lines.push(`${capital(spot.kind)}: ${spot.source}`);
  return { title: spot.name, lines };
}
