// What the person has set, and the colours that follow from it and from the desktop.
import { asApiError, type ApiError, type Ipc, type Settings } from "../ipc";

/** Settings with every field given. */
export type Chosen = Required<Settings>;

const DEFAULT: Chosen = { theme: "system", threads: null };

export class Preferences {
  settings = $state.raw<Chosen>(DEFAULT);
  error = $state.raw<ApiError | null>(null);
  readonly #ipc: Ipc;
  readonly #dark: MediaQueryList;

  constructor(ipc: Ipc) {
    this.#ipc = ipc;
    this.#dark = window.matchMedia("(prefers-color-scheme: dark)");
    this.#dark.addEventListener("change", () => this.#paint());
    this.#paint();
  }

  async load(): Promise<void> {
    try {
      this.settings = { ...DEFAULT, ...(await this.#ipc.settings()) };
      this.#paint();
    } catch (thrown) {
      this.error = asApiError(thrown);
    }
  }

  async save(change: Settings): Promise<void> {
    const before = this.settings;
    this.settings = { ...before, ...change };
    this.#paint();
    try {
      await this.#ipc.saveSettings(this.settings);
      this.error = null;
    } catch (thrown) {
      this.settings = before;
      this.#paint();
      this.error = asApiError(thrown);
    }
  }

  #paint(): void {
    const theme = this.settings.theme;
    const dark = theme === "dark" || (theme === "system" && this.#dark.matches);
    document.documentElement.dataset["theme"] = dark ? "dark" : "light";
  }
}
