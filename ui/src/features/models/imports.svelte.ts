// Imports under way and those that failed: a file or folder at a time, in the order they were given.
import { createContext } from "svelte";
import { asApiError, type ApiError } from "../../ipc";
import type { AppState } from "../../state/app.svelte";

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
      if (drop.kind !== "drop" || drop.paths.length === 0) return;
      this.#app.go("models");
      void this.take(drop.paths);
    });
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

export const [useImports, provideImports] = createContext<ImportDesk>();
