// The jobs of the program in memory: listed, watched, paused, cancelled, dismissed. What a job does is beside it.
import type { ApiError, Job, ModelEntry } from "./index";

export const failed = (message: string): ApiError => ({ code: "failed", message });

export class FakeJobs {
  models: ModelEntry[] = [];
  jobs: Job[] = [];
  paceMs: number;
  nextId = 1;
  readonly now: () => number;
  readonly #watchers: ((jobs: Job[]) => void)[] = [];

  constructor(paceMs: number, now: () => number) {
    this.paceMs = paceMs;
    this.now = now;
  }

  async watchJobs(onChange: (jobs: Job[]) => void): Promise<void> {
    this.#watchers.push(onChange);
    onChange(structuredClone(this.jobs));
  }

  async cancelJob(id: number): Promise<void> {
    this.changeJob(id, { state: "cancelled", eta_s: null, rate: null });
  }

  async pauseJob(id: number): Promise<void> {
    this.changeJob(id, { state: "paused", eta_s: null, rate: null });
  }

  async dismissJob(id: number): Promise<void> {
    this.jobs = this.jobs.filter((job) => job.id !== id);
    this.tell();
  }

  newJob(of: Pick<Job, "title" | "total"> & Partial<Job>): Job {
    const job: Job = {
      id: this.nextId++,
      state: this.jobs.some((other) => other.state === "running") ? "queued" : "running",
      step: "",
      done: 0,
      eta_s: null,
      rate: null,
      pausable: true,
      error: null,
      started_at: this.now(),
      scorecard: null,
      run: null,
      model: null,
      ...of,
    };
    this.jobs = [job, ...this.jobs];
    this.tell();
    return job;
  }

  jobOf(id: number): Job {
    const job = this.jobs.find((known) => known.id === id);
    if (job === undefined) throw failed(`There is no job ${id}.`);
    return job;
  }

  isRunning(id: number): boolean {
    return this.jobs.find((job) => job.id === id)?.state === "running";
  }

  modelOf(id: string): ModelEntry {
    const model = this.models.find((known) => known.id === id);
    if (model === undefined) throw failed(`There is no model “${id}”.`);
    return model;
  }

  changeJob(id: number, change: Partial<Job>): void {
    this.jobs = this.jobs.map((job) => (job.id === id ? { ...job, ...change } : job));
    this.tell();
  }

  tell(): void {
    this.#watchers.forEach((watcher) => watcher(structuredClone(this.jobs)));
  }

  /** A pause between two events. */
  beat(): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, this.paceMs));
  }
}
