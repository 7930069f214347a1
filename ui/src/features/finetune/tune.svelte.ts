// Fine-tuning: the dataset that is looked at, what would be trained and what that would take, and the trainings there are.
import { createContext } from "svelte";
import {
  asApiError, type ApiError, type ColumnMapping, type DatasetLook, type DatasetOptions, type Finetune, type FinetuneForecast,
  type FinetuneHead, type FinetuneRequest, type ModelEntry, type RowLayout, type TrainOptions,
} from "../../ipc";
import type { AppState } from "../../state/app.svelte";

/** Pause after the last change before a dataset is read again or a training forecast. */
const SETTLE_MS = 350;
/** Least time between two looks at a training that gets on. */
const FOLLOW_MS = 700;

export class TuneDesk {
  data = $state<string | null>(null);
  #model = $state<string | null>(null);
  dataset = $state.raw<DatasetOptions>({});
  options = $state.raw<TrainOptions>({});
  /** The person set them; else they follow the size of the dataset. */
  epochsChosen = $state(false);
  name = $state("");
  forgetting = $state(false);

  look = $state.raw<DatasetLook | null>(null);
  looking = $state(false);
  lookError = $state.raw<ApiError | null>(null);
  forecast = $state.raw<FinetuneForecast | null>(null);
  forecasting = $state(false);
  forecastError = $state.raw<ApiError | null>(null);
  starting = $state(false);
  startError = $state.raw<ApiError | null>(null);

  heads = $state.raw<FinetuneHead[]>([]);
  loaded = $state(false);
  listError = $state.raw<ApiError | null>(null);
  /** The training that is shown; none shows a new one. */
  openId = $state<number | null>(null);
  open = $state.raw<Finetune | null>(null);
  openError = $state.raw<ApiError | null>(null);

  readonly #app: AppState;
  #looked = 0;
  #foreseen = 0;
  #lookTimer: ReturnType<typeof setTimeout> | undefined;
  #forecastTimer: ReturnType<typeof setTimeout> | undefined;
  #followTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(app: AppState) {
    this.#app = app;
    app.jobs.onChange((job) => {
      if (job.finetune != null) this.#follow();
    });
  }

  async begin(): Promise<void> {
    try {
      const { dataset, options } = await this.#app.ipc.finetuneDefaults(null);
      this.dataset = { ...dataset, ...this.dataset };
      this.options = { ...options, ...this.options };
    } catch (thrown) {
      this.startError = asApiError(thrown);
    }
    await this.refresh();
  }

  // ------------------------------------------------------------ what to train

  /** Models that can be tuned: those without an adapter. */
  get choices(): ModelEntry[] {
    return this.#app.models.usable.filter((model) => model.source !== "tuned");
  }

  get model(): string | null {
    if (this.choices.some((model) => model.id === this.#model)) return this.#model;
    return (this.choices.find((model) => model.source === "starter") ?? this.choices[0])?.id ?? null;
  }

  set model(id: string | null) {
    this.#model = id;
    this.readSoon();
  }

  /** Begins a new training on a file. */
  take(path: string): void {
    this.data = path;
    this.openId = null;
    this.open = null;
    // Another file has other columns.
    this.dataset = { ...this.dataset, layout: null, mapping: null, skip_problems: false };
    this.epochsChosen = false;
    this.name = "";
    this.look = null;
    void this.read();
  }

  async pick(): Promise<void> {
    await this.#chosen(this.#app.ipc.pickDataset());
  }

  async sample(): Promise<void> {
    await this.#chosen(this.#app.ipc.sampleDataset());
  }

  async #chosen(path: Promise<string | null>): Promise<void> {
    try {
      const chosen = await path;
      if (chosen !== null) this.take(chosen);
    } catch (thrown) {
      this.lookError = asApiError(thrown);
    }
  }

  changeDataset(change: Partial<DatasetOptions>): void {
    this.dataset = { ...this.dataset, ...change };
    this.readSoon();
  }

  changeOptions(change: Partial<TrainOptions>): void {
    this.options = { ...this.options, ...change };
    if (change.epochs !== undefined) this.epochsChosen = true;
    if (change.seed !== undefined) this.dataset = { ...this.dataset, seed: change.seed };
    this.foreseeSoon();
  }

  /** Says which column plays a part; an empty one plays none. */
  map(part: keyof ColumnMapping, column: string): void {
    const now = this.dataset.mapping ?? this.look?.preview?.mapping ?? this.look?.detected.mapping ?? {};
    this.changeDataset({ mapping: { ...now, [part]: column === "" ? null : column } });
  }

  layOut(layout: RowLayout): void {
    this.changeDataset({ layout, mapping: this.dataset.mapping ?? this.look?.detected.mapping ?? null });
  }

  readSoon(): void {
    clearTimeout(this.#lookTimer);
    this.#lookTimer = setTimeout(() => void this.read(), SETTLE_MS);
  }

  /** Reads the dataset as the model would see it. */
  async read(): Promise<void> {
    clearTimeout(this.#lookTimer);
    const { data, model } = this;
    if (data === null || model === null) return;
    const mine = ++this.#looked;
    this.looking = true;
    this.lookError = null;
    this.forecast = null;
    try {
      const look = await this.#app.ipc.lookAtDataset(model, data, $state.snapshot(this.dataset));
      if (mine !== this.#looked) return;
      this.look = look;
      if (look.preview !== null && !this.epochsChosen) {
        const { options } = await this.#app.ipc.finetuneDefaults(look.preview.rows_train);
        if (mine === this.#looked && options.epochs !== undefined) this.options = { ...this.options, epochs: options.epochs };
      }
      this.foreseeSoon();
    } catch (thrown) {
      if (mine !== this.#looked) return;
      this.look = null;
      this.lookError = asApiError(thrown);
    } finally {
      if (mine === this.#looked) this.looking = false;
    }
  }

  /** Why training cannot start; none when it can. */
  get missing(): string | null {
    if (this.model === null) return "Choose a model first.";
    if (this.data === null) return "Choose a dataset first.";
    const preview = this.look?.preview ?? null;
    if (preview === null) return this.looking ? "Reading the dataset…" : "Say what the columns are first.";
    if (preview.rows_with_problems > 0 && this.dataset.skip_problems !== true) return "Some rows have problems: agree to leave them out, or mend the file.";
    if (preview.rows_train === 0) return "No row is left to train on.";
    return null;
  }

  get request(): FinetuneRequest | null {
    const { data, model } = this;
    if (data === null || model === null || this.missing !== null) return null;
    const name = this.name.trim();
    return {
      model, data, dataset: $state.snapshot(this.dataset), options: $state.snapshot(this.options),
      name: name === "" ? null : name, out: null, forgetting: this.forgetting,
    };
  }

  foreseeSoon(): void {
    clearTimeout(this.#forecastTimer);
    this.forecast = null;
    this.#forecastTimer = setTimeout(() => void this.foresee(), SETTLE_MS);
  }

  async foresee(): Promise<void> {
    const request = this.request;
    if (request === null) return;
    const mine = ++this.#foreseen;
    this.forecasting = true;
    this.forecastError = null;
    try {
      const forecast = await this.#app.ipc.forecastFinetune(request);
      if (mine === this.#foreseen) this.forecast = forecast;
    } catch (thrown) {
      if (mine === this.#foreseen) this.forecastError = asApiError(thrown);
    } finally {
      if (mine === this.#foreseen) this.forecasting = false;
    }
  }

  async start(): Promise<void> {
    const request = this.request;
    if (request === null || this.starting) return;
    this.starting = true;
    this.startError = null;
    try {
      const job = await this.#app.ipc.startFinetune(request);
      await this.refresh();
      if (job.finetune != null) await this.show(job.finetune);
    } catch (thrown) {
      this.startError = asApiError(thrown);
    } finally {
      this.starting = false;
    }
  }

  // ------------------------------------------------------------ what there is

  async refresh(): Promise<void> {
    try {
      this.heads = await this.#app.ipc.listFinetunes();
      this.listError = null;
    } catch (thrown) {
      this.listError = asApiError(thrown);
    } finally {
      this.loaded = true;
    }
  }

  async show(id: number): Promise<void> {
    this.openId = id;
    if (this.open?.head.id !== id) this.open = null;
    try {
      const open = await this.#app.ipc.loadFinetune(id);
      if (this.openId !== id) return;
      await this.#app.identities.know([open.head.model]);
      this.open = open;
      this.openError = null;
    } catch (thrown) {
      if (this.openId === id) this.openError = asApiError(thrown);
    }
  }

  startNew(): void {
    this.openId = null;
    this.open = null;
    this.openError = null;
  }

  async remove(id: number): Promise<void> {
    try {
      await this.#app.ipc.deleteFinetune(id);
      if (this.openId === id) this.startNew();
      this.listError = null;
    } catch (thrown) {
      this.openError = asApiError(thrown);
    }
    await this.refresh();
    await this.#app.models.refresh();
  }

  #follow(): void {
    this.#followTimer ??= setTimeout(() => {
      this.#followTimer = undefined;
      void this.refresh();
      if (this.openId !== null) void this.show(this.openId);
    }, FOLLOW_MS);
  }
}

export const [useTune, provideTune] = createContext<TuneDesk>();
