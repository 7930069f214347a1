// Scorecards: what to measure next, what it will cost, and the stored one that is shown. All figures come from the
// program's store; while a job works on a scorecard, it is read again as the job gets on.
import { createContext } from "svelte";
import {
  asApiError,
  type ApiError,
  type Job,
  type Scorecard,
  type ScorecardForecast,
  type ScorecardHead,
  type ScorecardSize,
} from "../../ipc";
import type { AppState } from "../../state/app.svelte";
import { isActive } from "../../state/jobs.svelte";

/** A scorecard in the making is read again at most this often. */
const REREAD_MS = 1000;

function halfWidth(points: number | null): number | null {
  return points === null ? null : points / 100;
}

export class ScorecardDesk {
  /** Models to measure; null until the person has chosen. */
  #chosen = $state.raw<string[] | null>(null);
  size = $state<ScorecardSize>("quick");
  /** Stop MMLU once its interval is at most so many points to each side; null measures all. */
  stopPoints = $state<number | null>(null);
  forecasts = $state.raw<ScorecardForecast[]>([]);
  forecastError = $state.raw<ApiError | null>(null);
  starting = $state(false);
  startError = $state.raw<ApiError | null>(null);
  heads = $state.raw<ScorecardHead[]>([]);
  shown = $state.raw<Scorecard | null>(null);
  shownError = $state.raw<ApiError | null>(null);
  loaded = $state(false);
  readonly #app: AppState;
  #wantedId: number | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #lastRead = 0;
  #asked = 0;

  constructor(app: AppState) {
    this.#app = app;
    app.jobs.onChange((job) => this.#follow(job));
  }

  /** What will be measured: the person's choice; before that, the starter model, or else the first there is. */
  get models(): string[] {
    const usable = this.#app.models.usable;
    if (this.#chosen !== null) return this.#chosen.filter((id) => usable.some((model) => model.id === id));
    const first = usable.find((model) => model.source === "starter") ?? usable[0];
    return first === undefined ? [] : [first.id];
  }

  get forecast(): ScorecardForecast | undefined {
    return this.forecasts.find((forecast) => forecast.size === this.size);
  }

  /** The job that works on a scorecard now, if any. */
  get job(): Job | undefined {
    const [first] = this.#atWork;
    return first;
  }

  /** How many scorecards wait for the one at work. */
  get waiting(): number {
    return Math.max(0, this.#atWork.length - 1);
  }

  /** The running one first, then those that wait, the oldest first. */
  get #atWork(): Job[] {
    const active = this.#app.jobs.all.filter((job) => job.scorecard !== null && isActive(job));
    const order = (job: Job): number => (job.state === "running" ? -1 : job.id);
    return active.sort((a, b) => order(a) - order(b));
  }

  choose(models: string[]): void {
    this.#chosen = models;
  }

  toggle(id: string): void {
    const now = this.models;
    // In the order of the list, whatever the order of the clicks.
    const next = now.includes(id) ? now.filter((other) => other !== id) : [...now, id];
    this.#chosen = this.#app.models.usable.map((model) => model.id).filter((model) => next.includes(model));
  }

  /** Asks what each size would cost for these models. */
  async foresee(models: string[], stopPoints: number | null): Promise<void> {
    const asked = ++this.#asked;
    if (models.length === 0) {
      this.forecasts = [];
      return;
    }
    try {
      const forecasts = await this.#app.ipc.forecastScorecards(models, halfWidth(stopPoints));
      if (asked !== this.#asked) return;
      this.forecasts = forecasts;
      this.forecastError = null;
    } catch (thrown) {
      if (asked === this.#asked) this.forecastError = asApiError(thrown);
    }
  }

  async start(): Promise<void> {
    if (this.starting || this.models.length === 0) return;
    this.starting = true;
    this.startError = null;
    const queued = this.job !== undefined;
    try {
      const stop = halfWidth(this.stopPoints);
      const job = await this.#app.ipc.startScorecard({ models: this.models, size: this.size, stop_at_half_width: stop });
      if (job.scorecard !== null && !queued) await this.show(job.scorecard);
      await this.refresh();
    } catch (thrown) {
      this.startError = asApiError(thrown);
    } finally {
      this.starting = false;
    }
  }

  /** Reads the list, and shows the latest where nothing is shown yet. */
  async refresh(): Promise<void> {
    try {
      this.heads = await this.#app.ipc.listScorecards();
      this.shownError = null;
      const latest = this.heads[0];
      if (this.#wantedId === null && latest !== undefined) await this.show(latest.id);
    } catch (thrown) {
      this.shownError = asApiError(thrown);
    } finally {
      this.loaded = true;
    }
  }

  async show(id: number): Promise<void> {
    this.#wantedId = id;
    this.#lastRead = Date.now();
    try {
      const scorecard = await this.#app.ipc.loadScorecard(id);
      await this.#app.identities.know(scorecard.rows.map((row) => row.model));
      if (this.#wantedId !== id) return;
      this.shown = scorecard;
      this.shownError = null;
    } catch (thrown) {
      if (this.#wantedId === id) this.shownError = asApiError(thrown);
    }
  }

  #follow(job: Job): void {
    const id = job.scorecard;
    if (id === null) return;
    if (!isActive(job)) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      if (id === this.#wantedId) void this.show(id);
      void this.refresh();
      return;
    }
    if (id !== this.#wantedId || this.#timer !== undefined) return;
    const wait = Math.max(0, this.#lastRead + REREAD_MS - Date.now());
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (id === this.#wantedId) void this.show(id);
    }, wait);
  }
}

export const [useScorecards, provideScorecards] = createContext<ScorecardDesk>();
