// All chats of the window: the history, the one that is open, and those that still answer in the background.
import { createContext } from "svelte";
import { asApiError, type ApiError, type ChatSummary, type Ipc } from "../../ipc";
import { Thread } from "./thread.svelte";

export const MOST_COLUMNS = 4;

export class ChatDesk {
  history = $state.raw<ChatSummary[]>([]);
  search = $state("");
  error = $state.raw<ApiError | null>(null);
  open = $state.raw<Thread>() as Thread;
  historyShown = $state(true);
  optionsShown = $state(false);
  readonly #ipc: Ipc;
  /** Threads that answer while another is open. */
  #working: Thread[] = [];
  #asked = 0;
  #wanted = 0;

  constructor(ipc: Ipc) {
    this.#ipc = ipc;
    this.open = this.#fresh([]);
  }

  async refresh(): Promise<void> {
    const asked = ++this.#asked;
    try {
      const history = await this.#ipc.listChats(this.search);
      if (asked === this.#asked) this.history = history;
    } catch (thrown) {
      this.error = asApiError(thrown);
    }
  }

  /** Opens an empty chat with these models, keeping an unsent draft and the options. */
  start(models: string[]): void {
    this.#wanted += 1;
    const { draft, options, turns } = this.open;
    this.#leave();
    this.open = this.#fresh(models);
    this.open.options = options;
    if (turns.length === 0) this.open.draft = draft;
  }

  async show(id: number): Promise<void> {
    const wanted = ++this.#wanted;
    if (this.open.id === id) return;
    const working = this.#working.find((thread) => thread.id === id);
    try {
      const thread =
        working ?? Thread.of(this.#ipc, await this.#ipc.loadChat(id), () => void this.refresh());
      // Another chat was chosen meanwhile.
      if (wanted !== this.#wanted) return;
      this.#leave();
      this.open = thread;
      this.error = null;
    } catch (thrown) {
      this.error = asApiError(thrown);
    }
  }

  async remove(id: number): Promise<void> {
    try {
      await this.#ipc.deleteChat(id);
      this.#working = this.#working.filter((thread) => thread.id !== id);
      if (this.open.id === id) this.open = this.#fresh(this.open.models);
      this.error = null;
    } catch (thrown) {
      this.error = asApiError(thrown);
    }
    await this.refresh();
  }

  /** Changes who answers from the next message on; not while they answer. */
  choose(models: string[]): void {
    if (!this.open.busy && models.length > 0) this.open.models = models.slice(0, MOST_COLUMNS);
  }

  #fresh(models: string[]): Thread {
    return new Thread(this.#ipc, models, () => void this.refresh());
  }

  #leave(): void {
    this.#working = this.#working.filter((thread) => thread.busy && thread !== this.open);
    if (this.open.busy) this.#working.push(this.open);
  }
}

export const [useDesk, provideDesk] = createContext<ChatDesk>();
