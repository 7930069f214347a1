// Which model can draft for which: the smaller ones on this machine, and what the program says of a pair. Comparing two
// vocabularies reads both, so an answer is kept for as long as both files are the same.
import type { Drafter, Ipc, ModelEntry, PairCheck } from "../ipc";
import type { Models } from "./models.svelte";

export class Pairs {
  readonly #ipc: Pick<Ipc, "checkPair">;
  readonly #models: Models;
  readonly #known = new Map<string, Promise<PairCheck>>();

  constructor(ipc: Pick<Ipc, "checkPair">, models: Models) {
    this.#ipc = ipc;
    this.#models = models;
  }

  /** Models on this machine that could draft for a target: those that take less to run. */
  smaller(target: string): ModelEntry[] {
    const large = this.#models.find(target);
    return this.#models.usable.filter((model) => model.id !== target && (large === undefined || isSmaller(model, large)));
  }

  check(target: string, drafter: Drafter): Promise<PairCheck> {
    const key = `${this.#version(target)}, ${drafter.kind === "lookup" ? "lookup" : this.#version(drafter.model)}`;
    let answer = this.#known.get(key);
    if (answer === undefined) {
      answer = this.#ipc.checkPair(target, drafter);
      this.#known.set(key, answer);
      // What went wrong may go right the next time.
      answer.catch(() => this.#known.delete(key));
    }
    return answer;
  }

  #version(id: string): string {
    return `${id} ${this.#models.find(id)?.bytes ?? ""}`;
  }
}

/** Fewer parameters, or the same in fewer bytes (an adapter's are not a model's); a model of unknown size may be either. */
function isSmaller(model: ModelEntry, than: ModelEntry): boolean {
  if (model.params === null || than.params === null) return true;
  if (model.params !== than.params) return model.params < than.params;
  return model.source !== "tuned" && (model.bytes ?? 0) < (than.bytes ?? 0);
}

/** The same drafter. */
export function sameDrafter(a: Drafter, b: Drafter): boolean {
  return a.kind === "model" ? b.kind === "model" && a.model === b.model : b.kind === "lookup";
}
