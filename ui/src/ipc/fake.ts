// The program in memory: behaves as the real one does, quickly and without a model. For component tests and for
// `npm run fake` in a browser; the production build does not contain it.
import { FAKE_REPLY, fakeAbout, fakeDetails, fakeModels, fakeRun, fakeScorecard, STAGES } from "./fakeData";
import { fakeComparison, HUB_MMLU, ownMmlu, STARTER_MMLU, SUBJECTS } from "./fakeBench";
import { storedCharts } from "./fakeCharts";
import { fullPast } from "./fakeFull";
import { fakeCatalogue } from "./fakeCatalogue";
import { FakeSpeculate } from "./fakeSpeculate";
import { failed } from "./fakeJobs";
import type {
  ApiError, BenchRequest, Chat, ChartData, ChatEvent, ChatSend, ChatSummary, Exported, ExportFormat,
  ExportRequest, FileDrop, Ipc, Job, MmluSource, MmluSubject, ModelDetails, ModelEntry, ModelIdentity, Reply, ReplySpeculation, RunComparison,
  RunDetails, RunSummary, Scorecard, ScorecardForecast, ScorecardHead, ScorecardRequest, ScorecardSize, Settings,
} from "./index";

export interface FakeOptions {
  models?: ModelEntry[];
  /** Pause between two events of a reply or a job. */
  paceMs?: number;
  /** What every model says. */
  reply?: string;
  now?: () => number;
}

export interface StoredCard {
  id: number;
  createdAt: number;
  request: ScorecardRequest;
  stages: number;
}

const QUESTIONS: Record<ScorecardSize, number> = { quick: 100, standard: 1140, full: 14_042 };

export class FakeIpc extends FakeSpeculate implements Ipc {
  chats: Chat[] = [];
  cards: StoredCard[] = [];
  kept: Settings = { theme: "system", threads: null };
  reply: string;
  /** Every request of a chat, in order, for tests to look at. */
  sent: ChatSend[] = [];
  /** The next reply of this model breaks off with this error after a few words. */
  breakNext: { model: string; error: ApiError } | null = null;
  /** The next import fails with this. */
  importError: ApiError | null = null;
  pickedFile: string | null = "/home/me/Downloads/new-model.gguf";
  pickedFolder: string | null = "/home/me/Downloads/new-model";
  pickedText: string | null = "/home/me/texts/walden.txt";
  /** Folder of the save dialog; null closes it. */
  exportFolder: string | null = "/home/me";
  mmlu: MmluSource = STARTER_MMLU;
  /** Every single benchmark asked for, by its job. */
  readonly benches = new Map<number, BenchRequest>();
  /** Every export asked for, in order. */
  exported: ExportRequest[] = [];
  /** Models in the order of first use. */
  modelOrder: string[] = [];
  readonly #drops = new Set<(drop: FileDrop) => void>();
  readonly #stopped = new Set<number>();

  constructor(options: FakeOptions = {}) {
    super(options.paceMs ?? 0, options.now ?? (() => Date.now() / 1000));
    const here = fakeModels();
    this.models = options.models ?? [...here, ...fakeCatalogue(here.map((model) => model.id))];
    this.reply = options.reply ?? FAKE_REPLY;
  }

  /** For the browser; the address says what is there: `?state=full` has scorecards, chats and an interrupted job. */
  static forBrowser(): FakeIpc {
    const fake = new FakeIpc({ paceMs: 40 });
    const asked = new URLSearchParams(location.search);
    if (asked.get("state") === "empty") fake.models = [];
    if (asked.get("state") === "full") {
      Object.assign(fake, fullPast(fake.models, fake.now(), () => fake.nextId++));
      fake.installPair();
    }
    const theme = asked.get("theme");
    if (theme === "dark" || theme === "light") fake.kept = { theme, threads: null };
    Object.assign(window, { fakeIpc: fake });
    return fake;
  }

  // ------------------------------------------------------------ models

  async listModels(): Promise<ModelEntry[]> {
    return structuredClone(this.models);
  }

  async modelDetails(id: string): Promise<ModelDetails> {
    return fakeDetails(this.modelOf(id));
  }

  async importModel(path: string): Promise<ModelEntry> {
    await this.beat();
    const error = this.importError;
    this.importError = null;
    if (error !== null) throw error;
    const name = path.split("/").at(-1) ?? path;
    if (!name.endsWith(".gguf") && name.includes(".")) {
      throw failed(`${name} is not a model: Billion imports .gguf files and folders with *.safetensors.`);
    }
    const [first] = fakeModels();
    if (first === undefined) throw failed("no model");
    const model: ModelEntry = { ...first, id: name.replace(/\.gguf$/, ""), name, source: "imported", path };
    this.models = [...this.models.filter((other) => other.id !== model.id), model];
    return model;
  }

  async removeModel(id: string): Promise<void> {
    this.modelOf(id);
    this.models = this.models.filter((model) => model.id !== id);
  }

  // ------------------------------------------------------------ chat

  async listChats(search: string): Promise<ChatSummary[]> {
    const wanted = search.toLowerCase();
    return this.chats
      .filter((chat) => JSON.stringify([chat.title, chat.turns]).toLowerCase().includes(wanted))
      .sort((a, b) => b.updated_at - a.updated_at)
      .map(({ id, title, models, updated_at }) => ({ id, title, models, updated_at }));
  }

  async loadChat(id: number): Promise<Chat> {
    return structuredClone(this.#chat(id));
  }

  async deleteChat(id: number): Promise<void> {
    this.chats = this.chats.filter((chat) => chat.id !== id);
  }

  async sendChat(send: ChatSend, onEvent: (event: ChatEvent) => void): Promise<void> {
    this.sent.push(structuredClone(send));
    send.models.forEach((model) => this.modelOf(model));
    const chat = this.#store(send);
    this.#stopped.delete(chat.id);
    onEvent({ kind: "saved", chat: chat.id, title: chat.title });
    const replies: Reply[] = [];
    for (const [column, model] of send.models.entries()) {
      const reply = await this.#answer(chat.id, model, column, send, onEvent);
      replies.push(reply);
      onEvent({ kind: "finished", column, reply });
    }
    chat.turns = [...chat.turns, { kind: "replies", replies }];
    chat.updated_at = this.now();
    onEvent({ kind: "done" });
  }

  async stopChat(chat: number): Promise<void> {
    this.#stopped.add(chat);
  }

  #store(send: ChatSend): Chat {
    let chat = this.chats.find((known) => known.id === send.chat);
    if (chat === undefined) {
      chat = {
        id: this.nextId++,
        title: (send.text ?? "").slice(0, 60),
        models: send.models,
        options: send.options,
        turns: [],
        updated_at: this.now(),
      };
      this.chats.push(chat);
    }
    chat.options = send.options;
    if (send.keep_turns !== null) chat.turns = chat.turns.slice(0, send.keep_turns);
    if (send.text !== null) chat.turns = [...chat.turns, { kind: "user", text: send.text }];
    return chat;
  }

  async #answer(
    chat: number,
    model: string,
    column: number,
    send: ChatSend,
    onEvent: (event: ChatEvent) => void,
  ): Promise<Reply> {
    const words = this.reply.match(/\s*\S+/g) ?? [];
    let text = "";
    let tokens = 0;
    const drafts = (): ReplySpeculation | null => this.drafts(model, send.options.draft ?? null, tokens);
    const ended = (finish_reason: string, error: ApiError | null = null): Reply => ({
      model,
      text,
      prompt_tokens: 42,
      tokens,
      ttft_s: tokens > 0 ? 0.183 : null,
      tokens_per_s: tokens > 1 ? 151.7 : null,
      finish_reason,
      speculation: drafts(),
      error,
    });
    onEvent({ kind: "loading", column });
    await this.beat();
    for (const done of [0, 42]) {
      onEvent({ kind: "reading", column, done, total: 42 });
      await this.beat();
    }
    for (const word of words) {
      if (this.#stopped.has(chat)) return ended("cancelled");
      if (this.breakNext?.model === model && tokens >= 3) {
        const { error } = this.breakNext;
        this.breakNext = null;
        return ended("error", error);
      }
      if (tokens >= (send.options.max_tokens ?? 512)) return ended("length");
      text += word;
      tokens += 1;
      onEvent({ kind: "text", column, text: word, tokens, speculation: drafts() });
      await this.beat();
    }
    return ended("stop");
  }

  // ------------------------------------------------------------ jobs

  async forecastScorecards(models: string[], stop: number | null): Promise<ScorecardForecast[]> {
    const halves: Record<ScorecardSize, number> = { quick: 0.0904, standard: 0.027, full: 0.0074 };
    const asked = (size: ScorecardSize): number =>
      stop === null ? QUESTIONS[size] : Math.min(QUESTIONS[size], Math.ceil((0.9 / stop) ** 2));
    return (["quick", "standard", "full"] as const).map((size) => ({
      size,
      questions: asked(size),
      shots: 0,
      problems: size === "quick" ? 20 : 164,
      seconds: models.length * (12 + asked(size) * 0.21),
      half_width: halves[size],
      basis: "estimated from the size of the models",
    }));
  }

  async startScorecard(request: ScorecardRequest): Promise<Job> {
    const card: StoredCard = { id: this.nextId++, createdAt: this.now(), request, stages: 0 };
    this.cards.push(card);
    const names = request.models.map((model) => this.modelOf(model).name).join(", ");
    const title = `${request.size[0]?.toUpperCase()}${request.size.slice(1)} scorecard of ${names}`;
    const job = this.newJob({ title, total: request.models.length * STAGES.length, scorecard: card.id });
    void this.#work(job.id, card);
    return job;
  }

  async startBench(request: BenchRequest): Promise<Job> {
    const model = this.modelOf(request.model);
    const job = this.newJob({ title: `${request.task} of ${model.name}`, total: 10 });
    this.benches.set(job.id, request);
    void this.#measure(job.id, request);
    return job;
  }

  async #measure(id: number, request: BenchRequest): Promise<void> {
    for (let done = this.jobOf(id).done; done <= 10; done += 1) {
      this.changeJob(id, { state: "running", step: request.task, done, eta_s: 10 - done, rate: { per_s: 4.76, unit: "questions" } });
      await this.beat();
      if (this.jobOf(id).state !== "running") return;
    }
    const run = fakeRun(id * 100, request.task, this.modelOf(request.model), this.now(), null);
    this.runs.unshift(run);
    this.changeJob(id, { state: "done", step: "", eta_s: null, rate: null, run: run.summary.id });
  }

  async #work(id: number, card: StoredCard): Promise<void> {
    while (this.jobs.some((job) => job.id !== id && job.state === "running")) await this.beat();
    if (this.jobs.find((job) => job.id === id)?.state === "queued") this.changeJob(id, { state: "running" });
    const steps = ["MMLU", "HumanEval", "speed", "memory"];
    while (card.stages < card.request.models.length * STAGES.length) {
      const model = this.modelOf(card.request.models[Math.floor(card.stages / STAGES.length)] ?? "");
      const left = card.request.models.length * STAGES.length - card.stages;
      this.changeJob(id, { step: `${steps[card.stages % STAGES.length]} of ${model.name}`, done: card.stages, eta_s: left * 4, rate: card.stages % STAGES.length === 0 ? { per_s: 4.76, unit: "questions" } : null });
      for (let beat = 0; beat < 6; beat += 1) {
        await this.beat();
        if (this.jobs.find((job) => job.id === id)?.state !== "running") return;
      }
      this.runs.unshift(
        fakeRun(card.id * 100 + card.stages, steps[card.stages % STAGES.length]?.toLowerCase() ?? "", model, this.now(), card.id),
      );
      card.stages += 1;
    }
    this.changeJob(id, { state: "done", step: "", done: card.stages, eta_s: null, rate: null });
  }

  async resumeJob(id: number): Promise<void> {
    const job = this.jobOf(id);
    const card = this.cards.find((known) => known.id === job.scorecard);
    const bench = this.benches.get(id);
    this.changeJob(id, { state: "running", error: null });
    if (card !== undefined) void this.#work(id, card);
    if (bench !== undefined) void this.#measure(id, bench);
    this.resumeFetching(id);
    this.resumeTuning(id);
    this.resumeSpeculation(id);
  }

  // ------------------------------------------------------------ results, settings

  async listScorecards(): Promise<ScorecardHead[]> {
    return this.cards
      .map((card) => ({
        id: card.id,
        created_at: card.createdAt,
        size: card.request.size,
        models: card.request.models,
        complete: card.stages >= card.request.models.length * STAGES.length,
      }))
      .sort((a, b) => b.created_at - a.created_at || b.id - a.id);
  }

  async loadScorecard(id: number): Promise<Scorecard> {
    const card = this.cards.find((known) => known.id === id);
    if (card === undefined) throw failed(`There is no scorecard ${id}.`);
    const models = card.request.models.map((model) => this.modelOf(model));
    return fakeScorecard(id, card.createdAt, card.request.size, models, card.stages);
  }

  async listRuns(): Promise<RunSummary[]> {
    return this.runs.map((run) => run.summary);
  }

  async runDetails(id: number): Promise<RunDetails> {
    const run = this.runs.find((known) => known.summary.id === id);
    if (run === undefined) throw failed(`There is no run ${id}.`);
    return structuredClone(run);
  }

  async deleteRun(id: number): Promise<void> {
    this.runs = this.runs.filter((run) => run.summary.id !== id);
  }

  async compareRuns(a: number, b: number): Promise<RunComparison> {
    return fakeComparison(await this.runDetails(a), await this.runDetails(b));
  }

  async exportResults(request: ExportRequest): Promise<Exported> {
    this.exported.push(request);
    return { path: request.out, bytes: 184_320 };
  }

  async storedCharts(): Promise<ChartData[]> {
    const measured = new Set(this.runs.map((run) => run.summary.model));
    return measured.size === 0 ? [] : storedCharts(this.models.filter((model) => measured.has(model.id)));
  }

  async identities(): Promise<ModelIdentity[]> {
    for (const id of [...this.models.filter((model) => model.installed).map((model) => model.id), ...this.runs.map((run) => run.summary.model)]) {
      if (!this.modelOrder.includes(id)) this.modelOrder.push(id);
    }
    return this.modelOrder.map((model, index) => ({ model, index }));
  }

  async mmluSource(): Promise<MmluSource> {
    return this.mmlu;
  }

  async useMmlu(path: string): Promise<MmluSource> {
    if (!/mmlu|\.(tar|gz|tgz|zip|parquet)$/.test(path)) {
      throw failed(`${path} holds no MMLU: looked for test/*_test.csv and found 3 other files. Give the folder that holds test and dev.`);
    }
    this.mmlu = ownMmlu(path);
    return this.mmlu;
  }

  async useStarterMmlu(): Promise<MmluSource> {
    this.mmlu = STARTER_MMLU;
    return this.mmlu;
  }

  async fetchMmlu(): Promise<Job> {
    const job = this.newJob({ title: "Download of cais/mmlu", total: 3_450_000, step: "downloading", rate: { per_s: 2e6, unit: "bytes" } });
    void this.beat().then(() => {
      this.mmlu = HUB_MMLU;
      this.changeJob(job.id, { state: "done", step: "", rate: null });
    });
    return job;
  }

  async mmluSubjects(): Promise<MmluSubject[]> {
    return SUBJECTS;
  }

  async settings(): Promise<Settings> {
    return this.kept;
  }

  async saveSettings(settings: Settings): Promise<void> {
    this.kept = structuredClone(settings);
  }

  async about() {
    return fakeAbout();
  }

  // ------------------------------------------------------------ files

  async pickModelFile(): Promise<string | null> {
    return this.pickedFile;
  }

  async pickMmluFile(): Promise<string | null> {
    return "/home/me/Downloads/mmlu.tar";
  }

  async pickMmluFolder(): Promise<string | null> {
    return "/home/me/Downloads/mmlu";
  }

  async pickTextFile(): Promise<string | null> {
    return this.pickedText;
  }

  async pickExportPath(name: string, _format: ExportFormat): Promise<string | null> {
    return this.exportFolder === null ? null : `${this.exportFolder}/${name}`;
  }

  async pickModelFolder(): Promise<string | null> {
    return this.pickedFolder;
  }

  async onFileDrop(onDrop: (drop: FileDrop) => void): Promise<() => void> {
    this.#drops.add(onDrop);
    return () => this.#drops.delete(onDrop);
  }

  /** As if a person dragged files over the window. */
  drag(drop: FileDrop): void {
    this.#drops.forEach((listener) => listener(drop));
  }

  #chat(id: number): Chat {
    const chat = this.chats.find((known) => known.id === id);
    if (chat === undefined) throw failed(`There is no chat ${id}.`);
    return chat;
  }
}
