// The person's account on the hub as this machine knows it: asked when a view needs it, changed from wherever a token is pasted.
import { asApiError, type ApiError, type HubAccount, type Ipc } from "../ipc";

export class Hub {
  account = $state.raw<HubAccount | null>(null);
  error = $state.raw<ApiError | null>(null);
  /** The hub is being asked, or a token saved. */
  busy = $state(false);
  readonly #ipc: Ipc;
  readonly #listeners = new Set<() => void>();

  constructor(ipc: Ipc) {
    this.#ipc = ipc;
  }

  /** What this machine knows; asks no server. */
  load(): Promise<boolean> {
    return this.#ask(() => this.#ipc.hubAccount());
  }

  /** Asks the hub whose the token is. */
  check(): Promise<boolean> {
    return this.#ask(() => this.#ipc.checkHubAccount());
  }

  /** Keeps the token if the hub knows it; says whether it did. */
  async save(token: string): Promise<boolean> {
    const saved = await this.#ask(() => this.#ipc.saveHubToken(token.trim()));
    if (saved) for (const listener of this.#listeners) listener();
    return saved;
  }

  forget(): Promise<boolean> {
    return this.#ask(() => this.#ipc.forgetHubToken());
  }

  /** Calls back when a token was saved. Returns how to stop. */
  onToken(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async #ask(how: () => Promise<HubAccount>): Promise<boolean> {
    this.busy = true;
    this.error = null;
    try {
      this.account = await how();
      return true;
    } catch (thrown) {
      this.error = asApiError(thrown);
      return false;
    } finally {
      this.busy = false;
    }
  }
}
