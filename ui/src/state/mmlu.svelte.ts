// The MMLU questions that scorecards and benchmarks use: where they come from, and how to have others.
import { asApiError, type ApiError, type Ipc, type MmluSource, type MmluSubject } from "../ipc";
import type { Jobs } from "./jobs.svelte";

export class MmluQuestions {
  source = $state.raw<MmluSource | null>(null);
  subjects = $state.raw<MmluSubject[]>([]);
  error = $state.raw<ApiError | null>(null);
  /** What was given last and is not MMLU. */
  refused = $state<string | null>(null);
  /** A folder or archive is being checked, or a download being asked for. */
  busy = $state(false);
  readonly #ipc: Ipc;
  #download: number | null = null;

  constructor(ipc: Ipc, jobs: Jobs) {
    this.#ipc = ipc;
    jobs.onChange((job) => {
      if (job.id !== this.#download || job.state !== "done") return;
      this.#download = null;
      void this.refresh();
    });
  }

  async refresh(): Promise<void> {
    try {
      [this.source, this.subjects] = await Promise.all([this.#ipc.mmluSource(), this.#ipc.mmluSubjects()]);
      this.error = null;
    } catch (thrown) {
      this.error = asApiError(thrown);
    }
  }

  /** Asks for the official folder or archive, and uses it. */
  async pick(kind: "file" | "folder"): Promise<void> {
    await this.#change(async () => {
      const path = await (kind === "file" ? this.#ipc.pickMmluFile() : this.#ipc.pickMmluFolder());
      return path === null ? this.source : this.#ipc.useMmlu(path);
    });
  }

  async use(path: string): Promise<void> {
    await this.#change(() => this.#ipc.useMmlu(path));
    if (this.error !== null) this.refused = path;
  }

  async useStarter(): Promise<void> {
    await this.#change(() => this.#ipc.useStarterMmlu());
  }

  /** Starts the download; the questions are used as soon as it is done. */
  async fetch(): Promise<void> {
    await this.#change(async () => {
      this.#download = (await this.#ipc.fetchMmlu()).id;
      return this.source;
    });
  }

  async #change(how: () => Promise<MmluSource | null>): Promise<void> {
    this.busy = true;
    this.error = null;
    this.refused = null;
    try {
      this.source = await how();
    } catch (thrown) {
      this.error = asApiError(thrown);
    } finally {
      this.busy = false;
    }
  }
}

/** Whether a dropped path can only be MMLU's: an archive or a parquet file. */
export function isMmluFile(path: string): boolean {
  return /\.(tar|tar\.gz|tgz|zip|parquet)$/i.test(path);
}
