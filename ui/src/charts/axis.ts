// How an axis reads: the unit its ticks are shown in, and their text.
import type { Axis } from "../ipc";
import { tickDigits } from "./scale";

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

export function tickText(value: number, ticks: number[]): string {
  const text = value.toFixed(tickDigits(ticks));
  return /^-0(\.0+)?$/.test(text) ? text.slice(1) : text;
}

/** "MMLU accuracy, %". */
export function axisTitle(axis: Axis, shown: Shown): string {
  return shown.unit === "" ? axis.label : `${axis.label}, ${shown.unit}`;
}
