// What the hub, fit, quantizing and checkpoints exchange, as crates/workbench/src/api/models.rs has it; gives way to bindings.ts when
// the commands are there.
import type { ChartData, Figure, Fit } from "./bindings";

/** What downloads would take, told before they start. */
export interface DownloadPlan {
  /** One a model, in the order asked. */
  models: PlannedDownload[];
  /** Of all of them, less what is on this machine. */
  bytes: number;
  /** Some sizes are computed from the number of parameters, because the hub did not say. */
  estimated: boolean;
  /** Free on the disk that takes them. */
  free_disk_bytes: number;
  /** The folder that takes them. */
  folder: string;
}

/** One model of a plan. */
export interface PlannedDownload {
  /** As a MODEL reference. */
  id: string;
  /** For people. */
  name: string;
  /** Bytes to fetch, less what is on this machine. */
  bytes: number;
  /** It is on this machine, whole. */
  installed: boolean;
  /** Its publisher gives it to accounts that accepted the licence. */
  gated: boolean;
}

/** A repository that the hub found for a keyword, a name or an address. */
export interface FoundModel {
  /** `OWNER/NAME`. */
  repository: string;
  /** Its page. */
  page: string;
  /** Its revision, where one was named. */
  revision: string | null;
  /** "llama"; none while the hub was not asked for it. */
  architecture: string | null;
  /** Why Billion cannot run it, if that is known. */
  problem: string | null;
  /** SPDX or the licence's own name. */
  license: string | null;
  /** Its publisher gives it to accounts that accepted the licence. */
  gated: boolean;
  /** Downloads of the last month. */
  downloads: number | null;
  /** What can be fetched of it; empty while the hub was not asked for it (`look_up_model`). */
  choices: FileChoice[];
}

/** Something to fetch of a repository: its safetensors, or one GGUF file. */
export interface FileChoice {
  /** The MODEL reference that fetches it. */
  id: string;
  /** "safetensors, BF16" or the file's name. */
  name: string;
  /** Bytes to fetch. */
  bytes: number;
  /** It is on this machine. */
  installed: boolean;
  /** Will it run here? Estimated from its size. */
  fit: Fit;
}

/** The person's account on the hub, as far as this machine knows it. */
export interface HubAccount {
  /** Address of the hub. */
  endpoint: string;
  /** Its folder of models, shared with Python tools. */
  cache: string;
  /** Where the token comes from. */
  token: TokenPlace;
  /** Its last characters, to tell one from another: "…x3Qf". */
  token_end: string | null;
  /** Whose it is; none until the hub was asked. */
  user: string | null;
  /** What a person should know: no keychain here, so the token lies in a file; the environment's token wins. */
  note: string | null;
  /** Page where tokens are made. */
  tokens_page: string;
}

/** Where a token is kept. */
export type TokenPlace = "nowhere" | "environment" | "keychain" | "file";

/** "What runs here?": models by kinds of machine. */
export interface RunsHere {
  /** Kinds of machine. */
  columns: MachineKind[];
  /** One a contender. */
  rows: RunsRow[];
  /** What the figures rest on. */
  basis: string;
}

/** A kind of machine. */
export interface MachineKind {
  /** "CPU, INT4". */
  name: string;
  /** Memory that a model may take there. */
  budget_bytes: number;
  /** It is this machine. */
  here: boolean;
  /** What is unproven there, for example a device that Billion was not tested on. */
  note: string | null;
}

/** A contender in the table. */
export interface RunsRow {
  /** Model id. */
  model: string;
  /** For people. */
  name: string;
  /** One a column, in order. */
  cells: Fit[];
}

/** A piece of the guide "Which should I choose?". */
export interface Advice {
  /** What a person wants: "Most per byte". */
  want: string;
  /** The answer, in a sentence or two. */
  answer: string;
  /** The model to take. */
  model: string;
  /** Its name. */
  name: string;
  /** It is on this machine. */
  installed: boolean;
  /** The measured results that it rests on, in words; none while there are none. */
  rests_on: string | null;
}

/** What to quantize. */
export interface ConvertRequest {
  /** A model of 16 or 32 bits a weight. */
  model: string;
  /** "q4_0", "q4_k_m", "q5_k_m", "q6_k", "q8_0" or "f16". */
  quant: string;
  /** The file to write; none keeps it in the library as `MODEL:QUANT`. */
  out: string | null;
}

/** A format that a model can be written in. */
export interface QuantChoice {
  /** "q4_k_m". */
  quant: string;
  /** For people: "Q4_K_M: 4.9 bits a weight, the usual choice". */
  words: string;
  /** Bytes of the file, by its recipe. */
  bytes: number;
  /** Will it run here? */
  fit: Fit;
}

/** What to look at over a model's training. */
export interface TimeLapseRequest {
  /** A model with checkpoints. */
  model: string;
  /** Training steps, of those that `checkpoints` lists. */
  steps: number[];
  /** What each checkpoint continues. */
  prompt: string;
}

/** A time-lapse in the list. */
export interface TimeLapseHead {
  /** Number in the store. */
  id: number;
  /** Model id. */
  model: string;
  /** Checkpoints asked for. */
  steps: number;
  /** Checkpoints evaluated. */
  done: number;
  /** When it was begun. */
  created_at: number;
}

/** A model over its training, drawn from the store. */
export interface TimeLapse {
  /** As listed. */
  head: TimeLapseHead;
  /** What each checkpoint continued. */
  prompt: string;
  /** The checkpoints evaluated so far, by step. */
  points: TimeLapsePoint[];
  /** MMLU, then perplexity, over training steps. */
  charts: ChartData[];
}

/** One checkpoint. */
export interface TimeLapsePoint {
  /** Training step. */
  step: number;
  /** Tokens that it had seen. */
  training_tokens: number;
  /** MMLU accuracy. */
  mmlu: Figure | null;
  /** Perplexity on Billion's own text. */
  perplexity: Figure | null;
  /** Its greedy continuation of the prompt. */
  continuation: string | null;
  /** Why it is missing, if it is. */
  problem: string | null;
}

/** What models take on the disk. */
export interface DiskUsage {
  /** Everything in Billion's own folder. */
  own_bytes: number;
  /** Models in the hub's cache, whoever put them there. */
  hub_bytes: number;
  /** The hub's cache, which Python tools share. */
  hub_folder: string;
  /** Free on its disk; none where the system does not say. */
  free_bytes: number | null;
  /** All of it in a line. */
  words: string;
}
