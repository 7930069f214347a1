// How figures, sizes, times and dates read on screen. No Intl: see locale.ts. Units follow after a narrow space.
import type { Figure, Rate } from "./ipc";

/** A value and its unit apart, so that a table can align them. */
export interface Reading {
  text: string;
  unit: string;
}

const NARROW = "\u202f";

/** Groups thousands: 14042 -> "14,042". */
export function count(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

/** About three digits: 152.3 -> "152", 15.23 -> "15.2", 1.523 -> "1.52". */
export function significant(value: number): string {
  const size = Math.abs(value);
  if (size >= 1000) return count(value);
  if (size >= 99.95) return value.toFixed(0);
  if (size >= 9.995) return value.toFixed(1);
  return value.toFixed(2);
}

/** Decimal sizes, as disks and model pages count: 2_200_000_000 -> "2.20 GB". */
export function bytes(value: number): string {
  const { text, unit } = bytesReading(value);
  return text + NARROW + unit;
}

function bytesReading(value: number): Reading {
  const size = Math.abs(value);
  if (size >= 1e9) return { text: significant(value / 1e9), unit: "GB" };
  if (size >= 1e6) return { text: significant(value / 1e6), unit: "MB" };
  if (size >= 1e3) return { text: significant(value / 1e3), unit: "kB" };
  return { text: count(value), unit: "bytes" };
}

/** Parameters: 134_515_008 -> "135M", 1_235_814_400 -> "1.24B". */
export function params(value: number): string {
  if (value >= 999_500_000) return `${significant(value / 1e9)}B`;
  if (value >= 999_500) return `${significant(value / 1e6)}M`;
  return count(value);
}

/** A span of time for people: 0.031 -> "31 ms", 4.2 -> "4.2 s", 95 -> "1 min 35 s", 7000 -> "1 h 57 min". */
export function duration(seconds: number): string {
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)}${NARROW}ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)}${NARROW}s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole}${NARROW}s`;
  const minutes = Math.floor(whole / 60);
  if (whole < 600) {
    return whole % 60 === 0 ? `${minutes}${NARROW}min` : `${minutes}${NARROW}min ${whole % 60}${NARROW}s`;
  }
  const rounded = Math.round(seconds / 60);
  if (rounded < 60) return `${rounded}${NARROW}min`;
  return rounded % 60 === 0
    ? `${rounded / 60}${NARROW}h`
    : `${Math.floor(rounded / 60)}${NARROW}h ${rounded % 60}${NARROW}min`;
}

/** A forecast, which must not look more exact than it is: 95 -> "about 2 min". */
export function forecast(seconds: number): string {
  if (seconds < 50) return `about ${Math.max(5, Math.round(seconds / 5) * 5)}${NARROW}s`;
  if (seconds < 5400) return `about ${Math.max(1, Math.round(seconds / 60))}${NARROW}min`;
  const halves = Math.round(seconds / 1800) / 2;
  return `about ${halves}${NARROW}h`;
}

/** Accuracy as per cent with one decimal. */
export function percent(value: number): string {
  return `${(value * 100).toFixed(1)}${NARROW}%`;
}

/** How many times as fast: 1.834 -> "1.83×". */
export function times(value: number): string {
  return `${value.toFixed(2)}×`;
}

/** How fast a job works: "4.76 questions/s", "31.2 MB/s", and "2.50 questions/min" where a second is too short. */
export function rate({ per_s, unit }: Rate): string {
  if (unit === "bytes") return `${bytes(per_s)}/s`;
  return per_s < 0.1 ? `${significant(per_s * 60)}${NARROW}${unit}/min` : `${significant(per_s)}${NARROW}${unit}/s`;
}

/** How much of a job is done, rounded down, so that 100 % means done. */
export function share(done: number, total: number): string {
  return `${Math.floor((100 * Math.min(done, total)) / Math.max(1, total))}${NARROW}%`;
}

/** First letter large, as a sentence or a line begins; a name of a file or a repository stays as it is. */
export function capital(text: string): string {
  return /^[^\s]*[\w][/.@][\w]/.test(text) ? text : text.charAt(0).toUpperCase() + text.slice(1);
}

/** With a large first letter, unless told, and a full stop, as a sentence has them. */
export function sentence(text: string, large = true): string {
  const whole = /[.!?…]$/.test(text) ? text : `${text}.`;
  return large ? capital(whole) : whole;
}

/** A half width of an interval in accuracy: 0.0904 -> "± 9 points". */
export function points(halfWidth: number): string {
  const value = halfWidth * 100;
  return `±${NARROW}${value >= 2 ? value.toFixed(0) : value.toFixed(1)} points`;
}

/** A measured value in the unit that people read it in. */
export function reading(value: number, unit: string): Reading {
  switch (unit) {
    case "accuracy":
      return { text: (value * 100).toFixed(1), unit: "%" };
    case "%":
      return { text: value.toFixed(1), unit };
    case "bytes":
      return bytesReading(value);
    case "s":
      return value < 0.9995
        ? { text: significant(value * 1000), unit: "ms" }
        : { text: significant(value), unit: "s" };
    case "tokens/s":
      return { text: significant(value), unit: "tok/s" };
    default:
      return { text: significant(value), unit };
  }
}

/** A measured value with its unit. */
export function measured(value: number, unit: string): string {
  const { text, unit: shown } = reading(value, unit);
  return shown === "" ? text : text + NARROW + shown;
}

/** Lower and upper end in the unit of the value: "24.0–38.9". */
export function range(value: number, lo: number | null, hi: number | null, unit: string): string {
  if (lo === null || hi === null) return "";
  const scale = scaleOf(value, unit);
  const digits = (v: number): string => (unit === "accuracy" || unit === "%" ? v.toFixed(1) : significant(v));
  return `${digits(lo * scale)}–${digits(hi * scale)}`;
}

function scaleOf(value: number, unit: string): number {
  const size = Math.abs(value);
  if (unit === "accuracy") return 100;
  if (unit === "s") return size < 0.9995 ? 1000 : 1;
  if (unit === "bytes") return size >= 1e9 ? 1e-9 : size >= 1e6 ? 1e-6 : size >= 1e3 ? 1e-3 : 1;
  return 1;
}

/** A figure of a scorecard, its interval, and how it was measured, in one sentence. */
export function figureWords(figure: Figure): string {
  const interval = range(figure.value, figure.lo, figure.hi, figure.unit);
  return `${measured(figure.value, figure.unit)}${interval === "" ? "" : ` (${interval})`}. ${figure.how}`;
}

/** Local date and time: "2026-11-24 21:40". */
export function dateTime(epochSeconds: number): string {
  const d = new Date(epochSeconds * 1000);
  const two = (n: number): string => n.toString().padStart(2, "0");
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${two(d.getHours())}:${two(d.getMinutes())}`;
}

/** A size of a scorecard, as it reads. */
export function sizeName(size: "quick" | "standard" | "full"): string {
  return { quick: "Quick", standard: "Standard", full: "Full" }[size];
}

/** Names of tasks, as they read. */
export function taskName(task: string): string {
  const names: Record<string, string> = {
    mmlu: "MMLU",
    humaneval: "HumanEval",
    speed: "Speed",
    memory: "Memory",
    perplexity: "Perplexity",
    energy: "Energy",
    finetune: "Fine-tuning",
    speculate: "Speculation",
  };
  return names[task] ?? task;
}
