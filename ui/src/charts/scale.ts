// Scales with round ticks, even and logarithmic. Only arithmetic; drawing is beside it.

export interface Scale {
  type: "linear" | "log";
  min: number;
  max: number;
  ticks: number[];
  /** Position of a value within `from`..`to`. */
  at: (value: number) => number;
}

/** A round step of 1, 2 or 5 times a power of ten, so that about `wanted` ticks fit into `span`. */
export function roundStep(span: number, wanted: number): number {
  const raw = span / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(raw));
  const lead = raw / power;
  return power * (lead > 5 ? 10 : lead > 2 ? 5 : lead > 1 ? 2 : 1);
}

/**
 * A scale that holds all values with round ends. `floor` is where an axis must begin; without it the axis begins at a
 * round value below the smallest.
 */
export function linear(values: number[], floor: number | null, from: number, to: number, wanted = 5): Scale {
  const known = values.filter(Number.isFinite);
  let low = floor ?? Math.min(...known);
  let high = Math.max(...known, low);
  if (!Number.isFinite(low) || !Number.isFinite(high)) [low, high] = [0, 1];
  if (high === low) {
    const pad = low === 0 ? 1 : Math.abs(low) / 2;
    high += pad;
    if (floor === null) low -= pad;
  }
  const step = roundStep(high - low, wanted);
  const min = floor ?? Math.floor(low / step) * step;
  const max = Math.ceil(high / step - 1e-9) * step;
  const ticks: number[] = [];
  for (let n = Math.ceil(min / step - 1e-9); n * step <= max + step * 1e-9; n += 1) {
    // Never -0, which would be read out as such.
    ticks.push(n === 0 ? 0 : n * step);
  }
  return { type: "linear", min, max, ticks, at: (value) => from + ((value - min) / (max - min)) * (to - from) };
}

/** A scale of equal ratios that holds all positive values, with ticks at 1, 2 and 5 times powers of ten, or fewer. */
export function logarithmic(values: number[], from: number, to: number, wanted = 6): Scale {
  const known = values.filter((value) => Number.isFinite(value) && value > 0);
  const [low, high] = known.length === 0 ? [1, 10] : [Math.min(...known), Math.max(...known)];
  const tenths = (leads: number[]): number[] => {
    const all: number[] = [];
    for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.ceil(Math.log10(high)) + 1; power += 1) {
      for (const lead of leads) all.push(Number(`${lead}e${power}`));
    }
    return all;
  };
  const ends = tenths([1, 2, 5]);
  const min = Math.max(...ends.filter((end) => end <= low));
  const max = Math.min(...ends.filter((end) => end >= high && end > min));
  const within = (leads: number[]): number[] => tenths(leads).filter((tick) => tick >= min && tick <= max);
  const fine = within([1, 2, 5]);
  const ticks = fine.length <= wanted + 2 ? fine : within([1]).length >= 2 ? within([1]) : fine;
  const span = Math.log(max / min);
  return { type: "log", min, max, ticks, at: (value) => from + (Math.log(value / min) / span) * (to - from) };
}

/** Decimals that tell neighbouring ticks apart. */
export function tickDigits(ticks: number[]): number {
  const [first, second] = ticks;
  if (first === undefined || second === undefined) return 0;
  return Math.max(0, -Math.floor(Math.log10(Math.abs(second - first)) + 1e-9));
}
