// The colour and the marker of each model, the same in every chart, column and list, for as long as the data lasts: the
// order in which models were first seen, kept in one place. Colours are Okabe and Ito's eight (tokens.css).

const PLACE = "billion.model-order";
const COLOURS = 8;
export const SHAPES = ["circle", "square", "triangle", "diamond", "cross", "wedge", "star", "hexagon"] as const;
export type Shape = (typeof SHAPES)[number];

export interface Identity {
  /** A value of CSS. */
  colour: string;
  shape: Shape;
}

export class Identities {
  #order = $state.raw<string[]>([]);
  readonly #storage: Storage | null;

  constructor(storage: Storage | null) {
    this.#storage = storage;
    this.#order = read(storage);
  }

  /** Takes in models that were not seen before, in this order. */
  know(models: string[]): void {
    const fresh = [...new Set(models)].filter((model) => !this.#order.includes(model));
    if (fresh.length === 0) return;
    this.#order = [...this.#order, ...fresh];
    try {
      this.#storage?.setItem(PLACE, JSON.stringify(this.#order));
    } catch {
      // A full or forbidden storage only costs the memory of colours over a restart.
    }
  }

  /** A model not yet known looks as the next one would. */
  of(model: string): Identity {
    const at = this.#order.indexOf(model);
    const place = at === -1 ? this.#order.length : at;
    const colour = place % COLOURS;
    const shape = (colour + Math.floor(place / COLOURS)) % SHAPES.length;
    return { colour: `var(--series-${colour + 1})`, shape: SHAPES[shape] ?? "circle" };
  }
}

function read(storage: Storage | null): string[] {
  try {
    const kept: unknown = JSON.parse(storage?.getItem(PLACE) ?? "[]");
    return Array.isArray(kept) ? kept.filter((id): id is string => typeof id === "string") : [];
  } catch {
    return [];
  }
}

/** The window's storage, where it may be used. */
export function windowStorage(): Storage | null {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}
