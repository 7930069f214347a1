// What cards say of a model that is more than its figure: its training, its family, what it drafts for.
import { count, significant } from "../../format";
import type { Catalogued, ModelEntry } from "../../ipc";

/** Tokens a parameter that Hoffmann et al. 2022 (Chinchilla) found best for a given amount of training. */
const CHINCHILLA = 20;

/** "3T tokens", "300B tokens". */
export function tokens(value: number): string {
  const text = (figure: number): string => String(Number(figure.toPrecision(3)));
  if (value >= 1e12) return `${text(value / 1e12)}T tokens`;
  if (value >= 1e9) return `${text(value / 1e9)}B tokens`;
  if (value >= 1e6) return `${text(value / 1e6)}M tokens`;
  return `${count(value)} tokens`;
}

/** "3T tokens: 2,727 a parameter, 136 times Chinchilla's 20". */
export function training(known: Catalogued): string {
  const times = known.tokens_per_param / CHINCHILLA;
  return `${tokens(known.training_tokens)}: ${count(known.tokens_per_param)} a parameter, ${times >= 10 ? count(times) : significant(times)} times Chinchilla's ${CHINCHILLA}`;
}

/** Models of the same people and the same kind stand together: "Llama", "Pythia". */
export function family(model: ModelEntry): string {
  return /^[A-Za-z]+[0-9]*/.exec(model.name)?.[0] ?? model.name;
}

/** Weights of 16 or 32 bits: what can be quantized. */
export function isWhole(model: ModelEntry): boolean {
  return model.installed && model.problem === null && /^B?F(16|32)$/i.test(model.quant ?? "");
}

export type Filter = "all" | "here" | "contenders" | "targets";

/** Ids that another model drafts for. */
export function targets(models: ModelEntry[]): Set<string> {
  return new Set(models.flatMap((model) => model.known?.drafts_for ?? []));
}

export function isHere(model: ModelEntry): boolean {
  return model.installed || model.problem !== null;
}
