// Imports under way and those that failed: a file or folder at a time, in the order they were given.
import { createContext } from "svelte";
import { asApiError, type ApiError } from "../../ipc";
import type { AppState } from "../../state/app.svelte";
import { isMmluFile } from "../../state/mmlu.svelte";

export interface FailedImport {
  path: string;
  error: ApiError;
}

export class ImportDesk {
  /** The one being read now. */
  current = $state<string | null>(null);
  waiting = $state.raw<string[]>([]);
  failed = $state.raw<FailedImport[]>([]);
  /** Names of what came in since the view was opened. */
  imported = $state.raw<string[]>([]);
  /** Files are held over the window. */
  over = $state(false);
  readonly #app: AppState;

  constructor(app: AppState) {
    this.#app = app;
  }

  /** Listens for files dropped on the window. Returns how to stop. */
  async listen(): Promise<() => void> {
    return this.#app.ipc.onFileDrop((drop) => {
      this.over = drop.kind === "over";
      if (drop.kind !== "drop") return;
      const questions = drop.paths.filter((path) => this.#isMmlu(path));
      const data = drop.paths.find((path) => !questions.includes(path) && isDataset(path));
      const models = drop.paths.filter((path) => !questions.includes(path) && !isDataset(path));
      if (data !== undefined) this.#app.go("finetune", { kind: "dataset", path: data });
      if (models.length > 0) {
        this.#app.go("models");
        void this.take(models);
      } else if (questions.length > 0 && !this.measures) {
        this.#app.go("scorecard");
      }
      for (const path of questions) void this.#app.mmlu.use(path);
    });
  }

  /** The open view trains, so that what is dropped on it is a dataset. */
  get trains(): boolean {
    return this.#app.view === "finetune";
  }

  /** The open view measures, so that a folder dropped on it is MMLU's and not a model's. */
  get measures(): boolean {
    return this.#app.view === "scorecard" || this.#app.view === "benchmarks";
  }

  #isMmlu(path: string): boolean {
    const isFile = /\.[a-z0-9]+$/i.test(path);
    // Elsewhere a table of rows is a dataset.
    if (/\.parquet$/i.test(path)) return this.measures;
    return isMmluFile(path) || (this.measures && !isFile);
  }

  async pick(kind: "file" | "folder"): Promise<void> {
    try {
      const { ipc } = this.#app;
      const path = await (kind === "file" ? ipc.pickModelFile() : ipc.pickModelFolder());
      if (path !== null) await this.take([path]);
    } catch (thrown) {
      this.failed = [...this.failed, { path: `the ${kind} dialog`, error: asApiError(thrown) }];
    }
  }

  async take(paths: string[]): Promise<void> {
    this.failed = this.failed.filter(({ path }) => !paths.includes(path));
    this.waiting = [...this.waiting, ...paths];
    if (this.current !== null) return;
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      this.current = next;
      try {
        const model = await this.#app.ipc.importModel(next);
        this.imported = [...this.imported, model.name];
      } catch (thrown) {
        this.failed = [...this.failed, { path: next, error: asApiError(thrown) }];
      }
      await this.#app.models.refresh();
    }
    this.current = null;
  }

  forget(path: string): void {
    this.failed = this.failed.filter((failed) => failed.path !== path);
  }

  #next(): string | undefined {
    const [first, ...rest] = this.waiting;
    this.waiting = rest;
    return first;
  }
}

/** Whether a dropped file holds rows to train on. */
export function isDataset(path: string): boolean {
  return /\.(jsonl|json|csv|tsv|parquet|txt)$/i.test(path);
}

export const [useImports, provideImports] = createContext<ImportDesk>();
