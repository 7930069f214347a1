// One task at a time with all its options: what is asked for, the job that measures it, and what all runs say together.
import { createContext } from "svelte";
import { asApiError, type ApiError, type BenchRequest, type ChartData, type Job } from "../../ipc";
import type { AppState } from "../../state/app.svelte";

export const TASKS = ["mmlu", "humaneval", "speed", "memory", "energy", "perplexity"] as const;
export type Task = (typeof TASKS)[number];

export class BenchDesk {
  task = $state<Task>("mmlu");
  /** The person's choice; before it, the starter model, or else the first there is. */
  #model = $state<string | null>(null);
  mmlu = $state({ shots: null as number | null, limit: null as number | null, stopPoints: null as number | null });
  /** Empty is all of them. */
  subjects = $state.raw<string[]>([]);
  humaneval = $state({ limit: null as number | null, n: 1, temperature: 0, maxTokens: 512, seed: 0 });
  speed = $state({ prompt: 512, generate: 64, repeat: 5, batch: 1, depth: 0 });
  memory = $state({ ctx: null as number | null });
  perplexity = $state({ text: "", ctx: null as number | null });
  starting = $state(false);
  error = $state.raw<ApiError | null>(null);
  charts = $state.raw<ChartData[]>([]);
  chartsError = $state.raw<ApiError | null>(null);
  #started = $state.raw<number[]>([]);
  readonly #app: AppState;

  constructor(app: AppState) {
    this.#app = app;
    app.jobs.onChange((job) => {
      if (job.state === "done") void this.draw();
    });
  }

  get model(): string | null {
    const usable = this.#app.models.usable;
    if (usable.some((model) => model.id === this.#model)) return this.#model;
    return (usable.find((model) => model.source === "starter") ?? usable[0])?.id ?? null;
  }

  set model(id: string | null) {
    this.#model = id;
  }

  /** The jobs started here that are still listed, the latest first. */
  get jobs(): Job[] {
    return this.#app.jobs.all.filter((job) => this.#started.includes(job.id));
  }

  /** What would be measured; none where something is missing. */
  get request(): BenchRequest | null {
    const model = this.model;
    if (model === null) return null;
    switch (this.task) {
      case "mmlu": {
        const { shots, limit, stopPoints } = this.mmlu;
        const stop = stopPoints === null ? null : stopPoints / 100;
        return { task: "mmlu", model, shots, limit, subjects: this.subjects, stop_at_half_width: stop };
      }
      case "humaneval": {
        const { limit, n, temperature, maxTokens, seed } = this.humaneval;
        return { task: "humaneval", model, limit, n, temperature, max_tokens: maxTokens, seed };
      }
      case "speed":
        return { task: "speed", model, ...this.speed };
      case "memory":
        return { task: "memory", model, ctx: this.memory.ctx };
      case "energy":
        return { task: "energy", model };
      case "perplexity": {
        const { text, ctx } = this.perplexity;
        return text === "" ? null : { task: "perplexity", model, text, ctx };
      }
    }
  }

  toggleSubjects(subjects: string[], on: boolean): void {
    const others = this.subjects.filter((subject) => !subjects.includes(subject));
    const chosen = on ? [...others, ...subjects] : others;
    // In the order of the list, whatever the order of the clicks.
    this.subjects = this.#app.mmlu.subjects.map(({ subject }) => subject).filter((subject) => chosen.includes(subject));
  }

  async pickText(): Promise<void> {
    try {
      const path = await this.#app.ipc.pickTextFile();
      if (path !== null) this.perplexity.text = path;
    } catch (thrown) {
      this.error = asApiError(thrown);
    }
  }

  async start(): Promise<void> {
    const request = this.request;
    if (request === null || this.starting) return;
    this.starting = true;
    this.error = null;
    try {
      const job = await this.#app.ipc.startBench($state.snapshot(request));
      this.#started = [...this.#started, job.id];
    } catch (thrown) {
      this.error = asApiError(thrown);
    } finally {
      this.starting = false;
    }
  }

  /** Reads what all stored runs say together. */
  async draw(): Promise<void> {
    try {
      const charts = await this.#app.ipc.storedCharts();
      await this.#app.identities.know(charts.flatMap((chart) => chart.series.map((series) => series.model)));
      this.charts = charts;
      this.chartsError = null;
    } catch (thrown) {
      this.chartsError = asApiError(thrown);
    }
  }
}

export const [useBench, provideBench] = createContext<BenchDesk>();
