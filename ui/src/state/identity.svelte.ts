// The colour and the marker of each model, the same in every chart, column, list and export, for as long as the data
// lasts: the order in which models were first seen, which the program keeps. Colours are Okabe and Ito's eight (tokens.css).
import type { Ipc } from "../ipc";

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
  readonly #ipc: Pick<Ipc, "identities">;

  constructor(ipc: Pick<Ipc, "identities">) {
    this.#ipc = ipc;
  }

  /** Asks the program for the places of models that are new here; those it does not know come last, in this order. */
  async know(models: string[]): Promise<void> {
    const isNew = (model: string): boolean => !this.#order.includes(model);
    if (!models.some(isNew)) return;
    try {
      const known = await this.#ipc.identities();
      this.learn([...known].sort((a, b) => a.index - b.index).map(({ model }) => model));
    } catch {
      // Without the program's order, colours hold for this window only.
    }
    const left = [...new Set(models)].filter(isNew);
    if (left.length > 0) this.#order = [...this.#order, ...left];
  }

  /** The order of the program; what only this window knows comes after it. */
  learn(order: string[]): void {
    this.#order = [...order, ...this.#order.filter((model) => !order.includes(model))];
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
