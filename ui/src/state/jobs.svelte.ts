// The jobs of the program as they are now. The program owns them; this only listens, and passes on what a person asks.
import { asApiError, type ApiError, type Ipc, type Job } from "../ipc";

export class Jobs {
  all = $state.raw<Job[]>([]);
  error = $state.raw<ApiError | null>(null);
  /** Jobs that were asked to stop and have not yet. */
  cancelling = $state.raw<number[]>([]);
  /** Jobs that were asked to pause and have not yet. */
  pausing = $state.raw<number[]>([]);
  readonly #ipc: Ipc;
  readonly #listeners = new Set<(job: Job) => void>();

  constructor(ipc: Ipc) {
    this.#ipc = ipc;
  }

  /** Starts listening, once. */
  async watch(): Promise<void> {
    try {
      await this.#ipc.watchJobs((jobs) => this.#take(jobs));
    } catch (thrown) {
      this.error = asApiError(thrown);
    }
  }

  /** Calls back when a job gets on: its units, its step or its state. Returns how to stop. */
  onChange(listener: (job: Job) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async cancel(id: number): Promise<void> {
    this.cancelling = [...this.cancelling, id];
    await this.#ask(this.#ipc.cancelJob(id));
    if (this.error !== null) this.cancelling = this.cancelling.filter((other) => other !== id);
  }

  async pause(id: number): Promise<void> {
    this.pausing = [...this.pausing, id];
    await this.#ask(this.#ipc.pauseJob(id));
    if (this.error !== null) this.pausing = this.pausing.filter((other) => other !== id);
  }

  /** It was asked to end or to pause, and has not yet. */
  isStopping(id: number): boolean {
    return this.cancelling.includes(id) || this.pausing.includes(id);
  }

  resume(id: number): Promise<void> {
    return this.#ask(this.#ipc.resumeJob(id));
  }

  dismiss(id: number): Promise<void> {
    return this.#ask(this.#ipc.dismissJob(id));
  }

  async #ask(call: Promise<void>): Promise<void> {
    this.error = null;
    try {
      await call;
    } catch (thrown) {
      this.error = asApiError(thrown);
    }
  }

  #take(jobs: Job[]): void {
    const before = new Map(this.all.map((job) => [job.id, job]));
    this.all = jobs;
    const active = (id: number): boolean => jobs.some((job) => job.id === id && isActive(job));
    this.cancelling = this.cancelling.filter(active);
    this.pausing = this.pausing.filter(active);
    for (const job of jobs) {
      const old = before.get(job.id);
      if (old?.state === job.state && old.step === job.step && old.done === job.done) continue;
      for (const listener of this.#listeners) listener(job);
    }
  }
}

/** Whether a job still takes or awaits the machine. */
export function isActive(job: Job): boolean {
  return job.state === "queued" || job.state === "running";
}

/** Units of a download's progress, as the program counts them (crates/workbench/src/downloads.rs). */
const UNIT_BYTES = 1000;

/** How far a download is, in bytes; none for other jobs and while its size is unknown. */
export function fetched(job: Job): { done: number; total: number } | null {
  const fetches = job.model === null ? job.rate?.unit === "bytes" : job.pausable;
  return fetches && job.total > 0 ? { done: job.done * UNIT_BYTES, total: job.total * UNIT_BYTES } : null;
}

/** What a job does now, unless that only repeats its figures: "512 MB of 2.2 GB". */
export function doing(job: Job): string {
  return /^[\d.,]+\s*\w+ of [\d.,]+\s*\w+$/.test(job.step) ? "" : job.step;
}
