// The models on this machine, as every view lists them.
import { asApiError, type ApiError, type Ipc, type ModelEntry } from "../ipc";
import type { Identities } from "./identity.svelte";

export class Models {
  all = $state.raw<ModelEntry[]>([]);
  loaded = $state(false);
  error = $state.raw<ApiError | null>(null);
  readonly #ipc: Ipc;
  readonly #identities: Identities;

  constructor(ipc: Ipc, identities: Identities) {
    this.#ipc = ipc;
    this.#identities = identities;
  }

  /** Models that can answer and be measured. */
  get usable(): ModelEntry[] {
    return this.all.filter((model) => model.installed && model.problem === null);
  }

  find(id: string): ModelEntry | undefined {
    return this.all.find((model) => model.id === id);
  }

  /** Name for people, or the id of a model that is no longer listed. */
  name(id: string): string {
    return this.find(id)?.name ?? id;
  }

  async refresh(): Promise<void> {
    try {
      const all = await this.#ipc.listModels();
      await this.#identities.know(all.filter((model) => model.installed).map((model) => model.id));
      this.all = all;
      this.error = null;
    } catch (thrown) {
      this.error = asApiError(thrown);
    } finally {
      this.loaded = true;
    }
  }
}
