// One chat as it is on screen: its turns, the replies being written, and how to send, stop, answer again and edit.
// It outlives its view, so that a reply goes on while the person looks elsewhere. The program stores the turns.
import {
  asApiError,
  type ApiError,
  type Chat,
  type ChatEvent,
  type ChatSend,
  type ChatTurn,
  type Ipc,
  type Reply,
  type ReplyOptions,
  type ReplySpeculation,
} from "../../ipc";

/** What a column does at this moment. */
export type Stage =
  | { kind: "waiting"; reason: string }
  | { kind: "loading" }
  | { kind: "reading"; done: number; total: number }
  | { kind: "writing" }
  | { kind: "finished"; reply: Reply };

/** A reply that is being written. */
export class LiveReply {
  readonly model: string;
  stage = $state.raw<Stage>({ kind: "waiting", reason: "" });
  text = $state("");
  tokens = $state(0);
  /** How drafts fare, where they are asked for. */
  speculation = $state.raw<ReplySpeculation | null>(null);

  constructor(model: string, column: number) {
    this.model = model;
    this.stage = { kind: "waiting", reason: column === 0 ? "" : "waits for the model before it" };
  }
}

/** Reply options with every field given. */
export type Options = Required<ReplyOptions>;

/** Greedy, without penalties and without a system message: what the program takes as its default. */
export function defaultOptions(): Options {
  return {
    system: null,
    max_tokens: 512,
    temperature: 0,
    top_k: 0,
    top_p: 1,
    min_p: 0,
    repetition_penalty: 1,
    seed: 0,
    stop: [],
    draft: null,
  };
}

export class Thread {
  id = $state<number | null>(null);
  title = $state("");
  models = $state.raw<string[]>([]);
  options = $state.raw<Options>(defaultOptions());
  turns = $state.raw<ChatTurn[]>([]);
  live = $state.raw<LiveReply[] | null>(null);
  /** Why nothing was sent at all; an error of one model is in its reply. */
  error = $state.raw<ApiError | null>(null);
  stopping = $state(false);
  draft = $state("");
  /** Turn being edited, and its new text. */
  editing = $state.raw<number | null>(null);
  edited = $state("");
  readonly #ipc: Ipc;
  readonly #onSaved: () => void;
  #stopWanted = false;

  constructor(ipc: Ipc, models: string[], onSaved: () => void) {
    this.#ipc = ipc;
    this.models = models;
    this.#onSaved = onSaved;
  }

  static of(ipc: Ipc, chat: Chat, onSaved: () => void): Thread {
    const thread = new Thread(ipc, chat.models, onSaved);
    thread.id = chat.id;
    thread.title = chat.title;
    thread.options = { ...defaultOptions(), ...chat.options, draft: chat.options.draft ?? null };
    thread.turns = chat.turns;
    return thread;
  }

  get busy(): boolean {
    return this.live !== null;
  }

  /** Sends the draft. */
  async send(): Promise<void> {
    const text = this.draft;
    if (text.trim() === "" || this.busy || this.models.length === 0) return;
    this.draft = "";
    const sent = await this.#run({ text, keep: null });
    if (!sent && this.draft === "") this.draft = text;
  }

  /** Answers the last question again; the replies to it are replaced. */
  async again(): Promise<void> {
    const last = this.turns.findLastIndex((turn) => turn.kind === "user");
    if (last === -1 || this.busy) return;
    await this.#run({ text: null, keep: last + 1 });
  }

  startEdit(turn: number): void {
    const at = this.turns[turn];
    if (at?.kind !== "user" || this.busy) return;
    this.editing = turn;
    this.edited = at.text;
  }

  /** Sends the edited question in place of the old one; what followed it is replaced. */
  async sendEdit(): Promise<void> {
    const turn = this.editing;
    if (turn === null || this.edited.trim() === "" || this.busy) return;
    this.editing = null;
    const before = this.turns;
    const sent = await this.#run({ text: this.edited, keep: turn });
    if (!sent) {
      this.turns = before;
      this.editing = turn;
    }
  }

  async stop(): Promise<void> {
    if (!this.busy) return;
    this.stopping = true;
    if (this.id === null) {
      this.#stopWanted = true;
      return;
    }
    try {
      await this.#ipc.stopChat(this.id);
    } catch (thrown) {
      this.error = asApiError(thrown);
      this.stopping = false;
    }
  }

  /** Whether the question was stored. */
  async #run({ text, keep }: { text: string | null; keep: number | null }): Promise<boolean> {
    const send: ChatSend = {
      chat: this.id,
      models: this.models,
      keep_turns: keep,
      text,
      options: this.options,
    };
    const before = this.turns;
    const live = this.models.map((model, column) => new LiveReply(model, column));
    this.error = null;
    this.stopping = false;
    this.#stopWanted = false;
    let saved = false;
    if (keep !== null) this.turns = this.turns.slice(0, keep);
    if (text !== null) this.turns = [...this.turns, { kind: "user", text }];
    this.live = live;
    try {
      await this.#ipc.sendChat(send, (event) => {
        if (event.kind === "saved") saved = true;
        this.#take(event, live);
      });
    } catch (thrown) {
      this.error = asApiError(thrown);
    }
    this.#settle(live, saved, before);
    return saved;
  }

  #take(event: ChatEvent, live: LiveReply[]): void {
    if (event.kind === "saved") {
      this.id = event.chat;
      this.title = event.title;
      this.#onSaved();
      if (this.#stopWanted) void this.stop();
      return;
    }
    if (event.kind === "done") return;
    const reply = live[event.column];
    if (reply === undefined) return;
    switch (event.kind) {
      case "waiting":
        reply.stage = { kind: "waiting", reason: event.reason };
        break;
      case "loading":
        reply.stage = { kind: "loading" };
        break;
      case "reading":
        reply.stage = { kind: "reading", done: event.done, total: event.total };
        break;
      case "text":
        if (reply.stage.kind !== "writing") reply.stage = { kind: "writing" };
        reply.text += event.text;
        reply.tokens = event.tokens;
        reply.speculation = event.speculation ?? null;
        break;
      case "finished":
        reply.text = event.reply.text;
        reply.stage = { kind: "finished", reply: event.reply };
        break;
    }
  }

  /** Turns the live replies into a turn, as the program has stored it. */
  #settle(live: LiveReply[], saved: boolean, before: ChatTurn[]): void {
    const error = this.error ?? { code: "failed" as const, message: "The reply ended without a word why." };
    if (saved) {
      const replies = live.map((column) =>
        column.stage.kind === "finished" ? column.stage.reply : brokenOff(column, error),
      );
      this.turns = [...this.turns, { kind: "replies", replies }];
      // The columns that broke off carry the error themselves.
      this.error = null;
    } else {
      this.turns = before;
    }
    this.live = null;
    this.stopping = false;
    this.#onSaved();
  }
}

function brokenOff(column: LiveReply, error: ApiError): Reply {
  return {
    model: column.model,
    text: column.text,
    prompt_tokens: 0,
    tokens: column.tokens,
    ttft_s: null,
    tokens_per_s: null,
    finish_reason: error.code === "cancelled" ? "cancelled" : "error",
    speculation: column.speculation,
    error: error.code === "cancelled" ? null : error,
  };
}
