// Downloads as cards see them: the job that brings a model, how to start and stop it, and why one did not even start.
import { createContext } from "svelte";
import { asApiError, isGate, type ApiError, type DownloadPlan, type Job } from "../../ipc";
import type { AppState } from "../../state/app.svelte";

export class DownloadDesk {
  /** Of those that did not start, by MODEL reference. */
  refused = $state.raw<Record<string, ApiError>>({});
  /** Being asked for. */
  starting = $state.raw<string[]>([]);
  /** Of the article's four. */
  plan = $state.raw<DownloadPlan | null>(null);
  planError = $state.raw<ApiError | null>(null);
  readonly #app: AppState;

  constructor(app: AppState) {
    this.#app = app;
    // A gate may open with a new token: what stood before one goes on by itself.
    app.hub.onToken(() => {
      for (const job of this.#app.jobs.all) {
        if (job.state === "failed" && job.error?.code === "needs_token") void this.#app.jobs.resume(job.id);
      }
      for (const [reference, error] of Object.entries(this.refused)) {
        if (error.code === "needs_token") void this.start(reference);
      }
    });
  }

  /** The job that brings this model, unless it has. */
  job(reference: string): Job | undefined {
    return this.#app.jobs.all.find((job) => job.model === reference && job.state !== "done" && job.state !== "cancelled");
  }

  /** Why it is not coming, if it is not. */
  error(reference: string): ApiError | null {
    const job = this.job(reference);
    return job === undefined ? (this.refused[reference] ?? null) : job.state === "failed" ? job.error : null;
  }

  async start(reference: string): Promise<void> {
    if (this.starting.includes(reference)) return;
    this.starting = [...this.starting, reference];
    this.#forget(reference);
    try {
      await this.#app.ipc.startDownload(reference);
    } catch (thrown) {
      this.refused = { ...this.refused, [reference]: asApiError(thrown) };
    } finally {
      this.starting = this.starting.filter((other) => other !== reference);
    }
  }

  /** Goes on with what failed or was paused, or starts it. */
  async again(reference: string): Promise<void> {
    const job = this.job(reference);
    await (job === undefined ? this.start(reference) : this.#app.jobs.resume(job.id));
  }

  /** Takes a failure off the card. */
  async dismiss(reference: string): Promise<void> {
    this.#forget(reference);
    const job = this.job(reference);
    if (job !== undefined) await this.#app.jobs.dismiss(job.id);
  }

  /** Asks what the article's four would take. */
  async planContenders(): Promise<void> {
    this.plan = null;
    this.planError = null;
    try {
      const wanted = this.#app.models.all.filter((model) => model.known?.article === true).map((model) => model.id);
      this.plan = await this.#app.ipc.planDownloads(wanted);
    } catch (thrown) {
      this.planError = asApiError(thrown);
    }
  }

  async startContenders(): Promise<void> {
    this.planError = null;
    try {
      await this.#app.ipc.startContenders();
    } catch (thrown) {
      this.planError = asApiError(thrown);
    }
  }

  /** Whether something waits for a token. */
  get gated(): boolean {
    const waits = (error: ApiError | null): boolean => error !== null && isGate(error);
    return this.#app.jobs.all.some((job) => job.state === "failed" && waits(job.error)) || Object.values(this.refused).some(waits);
  }

  #forget(reference: string): void {
    const { [reference]: _, ...others } = this.refused;
    this.refused = others;
  }
}

export const [useDownloads, provideDownloads] = createContext<DownloadDesk>();
