// The pair lab: which pair, whether it fits, what would be measured, the measurements that are at work, and what came of them.
import { createContext } from "svelte";
import {
  asApiError, type ApiError, type Drafter, type Job, type KnownPair, type LabPrompt, type ModelEntry, type PairCheck, type PromptKind,
  type RunSummary, type Speculation, type SpeculationRequest,
} from "../../ipc";
import type { AppState } from "../../state/app.svelte";
import { sameDrafter } from "../../state/pairs.svelte";

export class LabDesk {
  target = $state<string | null>(null);
  drafter = $state.raw<Drafter | null>(null);
  /** What the program says of these two; none before both are chosen and while it looks. */
  check = $state.raw<PairCheck | null>(null);
  checking = $state(false);
  checkError = $state.raw<ApiError | null>(null);

  kinds = $state.raw<PromptKind[]>([]);
  own = $state("");
  /** Tokens drafted at a time; none is automatic. */
  k = $state<number | null>(null);
  temperature = $state(0);
  seed = $state(0);
  maxTokens = $state(128);
  repeat = $state(3);
  sweep = $state(true);
  raw = $state(false);
  starting = $state(false);
  startError = $state.raw<ApiError | null>(null);

  prompts = $state.raw<LabPrompt[]>([]);
  pairs = $state.raw<KnownPair[]>([]);
  runs = $state.raw<RunSummary[]>([]);
  loaded = $state(false);
  listError = $state.raw<ApiError | null>(null);
  /** The run that is shown; none shows a new one. */
  openId = $state<number | null>(null);
  open = $state.raw<Speculation | null>(null);
  openError = $state.raw<ApiError | null>(null);
  /** The prompt whose text is shown. */
  prompt = $state(0);
  #started = $state.raw<number[]>([]);
  /** Started here; its result is shown when it is there, unless the person looks at another. */
  #awaited: number | null = null;

  readonly #app: AppState;
  #checked = 0;

  constructor(app: AppState) {
    this.#app = app;
    app.jobs.onChange((job) => {
      if (!this.#started.includes(job.id) || job.state !== "done") return;
      void this.refresh();
      if (this.#awaited === job.id && job.run !== null) void this.show(job.run);
    });
  }

  async begin(): Promise<void> {
    await this.refresh();
    try {
      const [prompts, pairs] = await Promise.all([this.#app.ipc.labPrompts(), this.#app.ipc.knownPairs()]);
      if (this.prompts.length === 0) this.kinds = prompts.map((prompt) => prompt.kind);
      this.prompts = prompts;
      this.pairs = pairs;
    } catch (thrown) {
      this.listError = asApiError(thrown);
    }
  }

  // ------------------------------------------------------------ the pair

  /** Targets: every model that can answer. */
  get targets(): ModelEntry[] {
    return this.#app.models.usable;
  }

  get drafts(): ModelEntry[] {
    return this.target === null ? [] : this.#app.pairs.smaller(this.target);
  }

  aim(target: string | null): void {
    this.target = target;
    const { drafter } = this;
    // A draft that is no smaller than the new target cannot speed it up.
    if (drafter?.kind === "model" && !this.drafts.some((model) => model.id === drafter.model)) this.drafter = null;
    void this.look();
  }

  draw(drafter: Drafter | null): void {
    this.drafter = drafter;
    void this.look();
  }

  choose(target: string, drafter: Drafter): void {
    this.startNew();
    this.target = target;
    this.drafter = drafter;
    void this.look();
  }

  isChosen(target: string, drafter: Drafter): boolean {
    return this.target === target && this.drafter !== null && sameDrafter(this.drafter, drafter);
  }

  /** Asks whether the two can work together. */
  async look(): Promise<void> {
    const mine = ++this.#checked;
    const { target, drafter } = this;
    this.check = null;
    this.checkError = null;
    this.startError = null;
    this.checking = target !== null && drafter !== null;
    if (target === null || drafter === null) return;
    try {
      const check = await this.#app.pairs.check(target, drafter);
      if (mine === this.#checked) this.check = check;
    } catch (thrown) {
      if (mine === this.#checked) this.checkError = asApiError(thrown);
    } finally {
      if (mine === this.#checked) this.checking = false;
    }
  }

  // ------------------------------------------------------------ the measurement

  toggle(kind: PromptKind, on: boolean): void {
    this.kinds = this.prompts.map((prompt) => prompt.kind).filter((other) => (other === kind ? on : this.kinds.includes(other)));
  }

  /** Why it cannot start; none when it can. */
  get missing(): string | null {
    if (this.target === null) return "Choose the large model first.";
    if (this.drafter === null) return "Choose who drafts.";
    if (this.checking) return "Comparing the two vocabularies…";
    if (this.check === null) return "It is not known yet whether they fit.";
    if (!this.check.works) return "These two cannot work together.";
    if (this.kinds.length === 0 && this.own.trim() === "") return "Choose a kind of prompts, or write one of your own.";
    return null;
  }

  get request(): SpeculationRequest | null {
    const { target, drafter } = this;
    if (target === null || drafter === null || this.missing !== null) return null;
    return {
      target,
      drafter,
      k: this.k ?? "auto",
      kinds: this.kinds,
      prompts: this.own.trim() === "" ? [] : [this.own],
      raw: this.raw,
      temperature: this.temperature,
      seed: this.seed,
      max_tokens: this.maxTokens,
      repeat: this.repeat,
      sweep: this.sweep,
    };
  }

  /** The jobs started here that are still listed, the latest first. */
  get jobs(): Job[] {
    return this.#app.jobs.all.filter((job) => this.#started.includes(job.id));
  }

  async start(): Promise<void> {
    const { request } = this;
    if (request === null || this.starting) return;
    this.starting = true;
    this.startError = null;
    try {
      const job = await this.#app.ipc.startSpeculation(request);
      this.#started = [...this.#started, job.id];
      this.#awaited = job.id;
    } catch (thrown) {
      this.startError = asApiError(thrown);
    } finally {
      this.starting = false;
    }
  }

  /** Chooses, asks, and starts if they fit. */
  async measure(target: string, drafter: Drafter): Promise<void> {
    this.startNew();
    this.target = target;
    this.drafter = drafter;
    await this.look();
    await this.start();
  }

  // ------------------------------------------------------------ what there is

  async refresh(): Promise<void> {
    try {
      this.runs = (await this.#app.ipc.listRuns()).filter((run) => run.task === "speculate");
      await this.#app.identities.know(this.runs.map((run) => run.model));
      this.listError = null;
    } catch (thrown) {
      this.listError = asApiError(thrown);
    } finally {
      this.loaded = true;
    }
  }

  async show(run: number): Promise<void> {
    this.#awaited = null;
    this.openId = run;
    if (this.open?.report.run !== run) {
      this.open = null;
      this.prompt = 0;
    }
    this.openError = null;
    try {
      const open = await this.#app.ipc.loadSpeculation(run);
      await this.#app.identities.know([open.report.target, ...(open.report.draft === null ? [] : [open.report.draft])]);
      if (this.openId === run) this.open = open;
    } catch (thrown) {
      if (this.openId === run) this.openError = asApiError(thrown);
    }
  }

  startNew(): void {
    this.openId = null;
    this.open = null;
    this.openError = null;
  }
}

export const [useLab, provideLab] = createContext<LabDesk>();
