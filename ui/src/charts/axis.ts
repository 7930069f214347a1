// How an axis reads: the unit its ticks are shown in, and their text.
import { count } from "../format";
import type { Axis } from "../ipc";
import { linear, logarithmic, tickDigits, type Scale } from "./scale";

/** Factor from the unit of the data to the unit on screen, and that unit. */
export interface Shown {
  factor: number;
  unit: string;
}

export function shownUnit(unit: string, largest: number): Shown {
  if (unit === "accuracy") return { factor: 100, unit: "%" };
  if (unit === "bytes") {
    if (largest >= 1e9) return { factor: 1e-9, unit: "GB" };
    return largest >= 1e6 ? { factor: 1e-6, unit: "MB" } : { factor: 1, unit: "bytes" };
  }
  if (unit === "s") return largest < 1 ? { factor: 1000, unit: "ms" } : { factor: 1, unit: "s" };
  return { factor: 1, unit: unit === "tokens/s" ? "tok/s" : unit };
}

export function tickText(value: number, scale: Scale): string {
  if (scale.type === "log") return value >= 1000 ? count(value) : String(Number(value.toPrecision(3)));
  const digits = tickDigits(scale.ticks);
  const text = digits === 0 ? count(value) : value.toFixed(digits);
  return /^-0(\.0+)?$/.test(text) ? text.slice(1) : text;
}

/** "MMLU accuracy, %". */
export function axisTitle(axis: Axis, shown: Shown): string {
  return shown.unit === "" ? axis.label : `${axis.label}, ${shown.unit}`;
}

/** A measured axis, ready to be drawn between two positions. */
export interface Drawn {
  shown: Shown;
  scale: Scale;
  title: string;
  /** A value of the data in the unit on screen. */
  in: (value: number) => number;
  /** Its position. */
  at: (value: number) => number;
  /** It has a place on this axis; zero has none where equal steps are equal ratios. */
  has: (value: number) => boolean;
}

export function drawn(axis: Axis, values: number[], from: number, to: number, wanted: number): Drawn {
  const all = axis.reference === null ? values : [...values, axis.reference.value];
  const shown = shownUnit(axis.unit, Math.max(...all.map(Math.abs)));
  const inUnit = (value: number): number => value * shown.factor;
  const scale = axis.log
    ? logarithmic(all.map(inUnit), from, to, wanted)
    : linear(all.map(inUnit), axis.min === null ? null : inUnit(axis.min), from, to, wanted);
  return {
    shown,
    scale,
    title: axisTitle(axis, shown),
    in: inUnit,
    at: (value) => scale.at(inUnit(value)),
    has: (value) => Number.isFinite(value) && (!axis.log || value > 0),
  };
}
