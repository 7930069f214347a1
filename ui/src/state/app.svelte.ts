// What every view may use: the program behind the window, models, jobs, settings, and where the person is.
import { createContext } from "svelte";
import type { Drafter, Ipc } from "../ipc";
import { Hub } from "./hub.svelte";
import { Identities } from "./identity.svelte";
import { Jobs } from "./jobs.svelte";
import { MmluQuestions } from "./mmlu.svelte";
import { Models } from "./models.svelte";
import { Pairs } from "./pairs.svelte";
import { Preferences } from "./preferences.svelte";

export const VIEWS = ["scorecard", "models", "chat", "benchmarks", "finetune", "speculate", "results", "settings"] as const;
export type View = (typeof VIEWS)[number];

export const VIEW_NAMES: Record<View, string> = {
  scorecard: "Scorecard",
  models: "Models",
  chat: "Chat",
  benchmarks: "Benchmarks",
  finetune: "Fine-tune",
  speculate: "Speculate",
  results: "Results",
  settings: "Settings",
};

/** What another view asks a view to show; the view takes it once. */
export type Wanted =
  | { kind: "scorecard"; id: number }
  | { kind: "run"; id: number }
  | { kind: "model"; id: string }
  | { kind: "get"; id: string }
  | { kind: "import"; path?: string }
  | { kind: "bench"; model: string }
  | { kind: "dataset"; path: string }
  | { kind: "tune"; model: string }
  | { kind: "finetune"; id: number }
  | { kind: "chat"; id: number }
  | { kind: "speculate"; target: string }
  | { kind: "speculation"; run: number }
  | { kind: "new-chat"; models: string[]; draft?: Drafter }
  | { kind: "measure"; models: string[] };

export class AppState {
  view = $state<View>("scorecard");
  wanted = $state.raw<Wanted | null>(null);
  readonly ipc: Ipc;
  readonly hub: Hub;
  readonly identities: Identities;
  readonly models: Models;
  readonly jobs: Jobs;
  readonly mmlu: MmluQuestions;
  readonly pairs: Pairs;
  readonly preferences: Preferences;

  constructor(ipc: Ipc) {
    this.ipc = ipc;
    this.hub = new Hub(ipc);
    this.identities = new Identities(ipc);
    this.models = new Models(ipc, this.identities);
    this.pairs = new Pairs(ipc, this.models);
    this.jobs = new Jobs(ipc);
    // What was fetched or quantized is a model like the others, wherever the person looks.
    this.jobs.onChange((job) => {
      const ended = !["queued", "running"].includes(job.state);
      if ((job.state === "done" && job.model !== null) || (ended && job.finetune != null)) void this.models.refresh();
    });
    this.mmlu = new MmluQuestions(ipc, this.jobs);
    this.preferences = new Preferences(ipc);
  }

  async start(): Promise<void> {
    await Promise.all([this.preferences.load(), this.models.refresh(), this.jobs.watch(), this.mmlu.refresh()]);
  }

  go(view: View, wanted: Wanted | null = null): void {
    this.wanted = wanted;
    this.view = view;
  }

  /** Hands a wish of this kind to the view that serves it, once. */
  take<K extends Wanted["kind"]>(kind: K): Extract<Wanted, { kind: K }> | null {
    const wanted = this.wanted;
    if (wanted?.kind !== kind) return null;
    this.wanted = null;
    return wanted as Extract<Wanted, { kind: K }>;
  }
}

export const [useApp, provideApp] = createContext<AppState>();
