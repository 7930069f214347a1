// The stored runs: list, filter, the one that is open, and two compared.
import { createContext } from "svelte";
import { asApiError, type ApiError, type Ipc, type RunComparison, type RunDetails, type RunSummary } from "../../ipc";

export class ResultsDesk {
  runs = $state.raw<RunSummary[]>([]);
  loaded = $state(false);
  error = $state.raw<ApiError | null>(null);
  task = $state("");
  model = $state("");
  text = $state("");
  openId = $state<number | null>(null);
  details = $state.raw<RunDetails | null>(null);
  detailsError = $state.raw<ApiError | null>(null);
  /** Which questions of a run are listed. */
  answers = $state<"all" | "right" | "wrong">("all");
  /** Runs picked to be compared, at most two. */
  picked = $state.raw<number[]>([]);
  comparison = $state.raw<RunComparison | null>(null);
  readonly #ipc: Ipc;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(ipc: Ipc) {
    this.#ipc = ipc;
  }

  get found(): RunSummary[] {
    const words = this.text.toLowerCase().split(/\s+/).filter(Boolean);
    return this.runs.filter((run) => {
      if (this.task !== "" && run.task !== this.task) return false;
      if (this.model !== "" && run.model !== this.model) return false;
      const all = `${run.id} ${run.task} ${run.model} ${run.quant} ${run.headline}`.toLowerCase();
      return words.every((word) => all.includes(word));
    });
  }

  async refresh(): Promise<void> {
    try {
      this.runs = await this.#ipc.listRuns();
      this.error = null;
    } catch (thrown) {
      this.error = asApiError(thrown);
    } finally {
      this.loaded = true;
    }
  }

  /** Reads the list again, at most once a second however often this is asked. */
  refreshSoon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.refresh();
    }, 1000);
  }

  /** A third one takes the place of the first. */
  pick(id: number): void {
    this.picked = this.picked.includes(id) ? this.picked.filter((other) => other !== id) : [...this.picked, id].slice(-2);
  }

  /** The two picked runs, the earlier one first. */
  async compare(): Promise<void> {
    const [a, b] = [...this.picked].sort((first, second) => first - second);
    if (a === undefined || b === undefined) return;
    this.openId = null;
    this.details = null;
    this.detailsError = null;
    try {
      this.comparison = await this.#ipc.compareRuns(a, b);
    } catch (thrown) {
      this.comparison = null;
      this.detailsError = asApiError(thrown);
    }
  }

  endComparison(): void {
    this.comparison = null;
    this.picked = [];
  }

  async open(id: number): Promise<void> {
    this.openId = id;
    this.comparison = null;
    this.detailsError = null;
    try {
      const details = await this.#ipc.runDetails(id);
      if (this.openId === id) this.details = details;
    } catch (thrown) {
      if (this.openId !== id) return;
      this.details = null;
      this.detailsError = asApiError(thrown);
    }
  }

  async remove(id: number): Promise<void> {
    try {
      await this.#ipc.deleteRun(id);
      this.picked = this.picked.filter((other) => other !== id);
      if (this.openId === id) {
        this.openId = null;
        this.details = null;
      }
    } catch (thrown) {
      this.detailsError = asApiError(thrown);
    }
    await this.refresh();
  }
}

export const [useResults, provideResults] = createContext<ResultsDesk>();
