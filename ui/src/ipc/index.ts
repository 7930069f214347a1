// What the window can ask of the program: one typed interface with two implementations, Tauri's (tauri.ts) and an
// in-memory one for component tests and for the browser (fake.ts). Only this folder imports @tauri-apps.
import type {
  About,
  Advice,
  ApiError,
  BenchRequest,
  ChartData,
  Chat,
  ChatEvent,
  ChatSend,
  ChatSummary,
  ConvertRequest,
  DatasetLook,
  DatasetOptions,
  DiskUsage,
  DownloadPlan,
  Drafter,
  Exported,
  ExportFormat,
  ExportRequest,
  Finetune,
  FinetuneDefaults,
  FinetuneForecast,
  FinetuneHead,
  FinetuneRequest,
  Fit,
  FoundModel,
  HubAccount,
  Job,
  KnownPair,
  LabPrompt,
  MmluSource,
  MmluSubject,
  ModelDetails,
  ModelEntry,
  ModelIdentity,
  PairCheck,
  QuantChoice,
  RunComparison,
  RunDetails,
  RunsHere,
  RunSummary,
  Scorecard,
  ScorecardForecast,
  ScorecardHead,
  ScorecardRequest,
  Settings,
  Speculation,
  SpeculationRequest,
  TimeLapse,
  TimeLapseHead,
  TimeLapseRequest,
} from "./bindings";
export type * from "./bindings";

/** Files held over the window, dropped on it, or taken away again. */
export type FileDrop = { kind: "over" } | { kind: "drop"; paths: string[] } | { kind: "leave" };

/** Every call rejects with an `ApiError` and nothing else. */
export interface Ipc {
  listModels(): Promise<ModelEntry[]>;
  modelDetails(id: string): Promise<ModelDetails>;
  importModel(path: string): Promise<ModelEntry>;
  removeModel(id: string): Promise<void>;
  /** Will it run here with this many tokens of context (none: the usual)? */
  modelFit(id: string, context: number | null): Promise<Fit>;
  whatRunsHere(): Promise<RunsHere>;
  diskUsage(): Promise<DiskUsage>;
  advice(): Promise<Advice[]>;

  /** What these would take, before they start. */
  planDownloads(references: string[]): Promise<DownloadPlan>;
  startDownload(reference: string): Promise<Job>;
  /** The article's four, less what is on this machine. */
  startContenders(): Promise<Job[]>;
  searchModels(keyword: string): Promise<FoundModel[]>;
  /** A repository with its files, by `owner/name`, `hf:…` or a pasted address. */
  lookUpModel(text: string): Promise<FoundModel>;
  /** What this machine knows of the person's account; asks no server. */
  hubAccount(): Promise<HubAccount>;
  /** The same, after the hub was asked whose token it is. */
  checkHubAccount(): Promise<HubAccount>;
  saveHubToken(token: string): Promise<HubAccount>;
  forgetHubToken(): Promise<HubAccount>;

  quantChoices(model: string): Promise<QuantChoice[]>;
  startConvert(request: ConvertRequest): Promise<Job>;

  /** Training steps whose checkpoints can be had, in order. */
  checkpoints(model: string): Promise<number[]>;
  startTimeLapse(request: TimeLapseRequest): Promise<Job>;
  timeLapses(): Promise<TimeLapseHead[]>;
  timeLapse(id: number): Promise<TimeLapse>;

  listChats(search: string): Promise<ChatSummary[]>;
  loadChat(id: number): Promise<Chat>;
  deleteChat(id: number): Promise<void>;
  /** Settles when every model has answered; what happens meanwhile comes as events. */
  sendChat(send: ChatSend, onEvent: (event: ChatEvent) => void): Promise<void>;
  stopChat(chat: number): Promise<void>;

  forecastScorecards(models: string[], stopAtHalfWidth: number | null): Promise<ScorecardForecast[]>;
  startScorecard(request: ScorecardRequest): Promise<Job>;
  /** One task with all its options, in the background. */
  startBench(request: BenchRequest): Promise<Job>;

  /** What a training on so many rows begins with; none is a dataset that nobody has seen. */
  finetuneDefaults(rows: number | null): Promise<FinetuneDefaults>;
  lookAtDataset(model: string, data: string, options: DatasetOptions): Promise<DatasetLook>;
  /** The file of the dataset that comes with Billion. */
  sampleDataset(): Promise<string>;
  /** Measures a step of the training on this machine. */
  forecastFinetune(request: FinetuneRequest): Promise<FinetuneForecast>;
  startFinetune(request: FinetuneRequest): Promise<Job>;
  listFinetunes(): Promise<FinetuneHead[]>;
  loadFinetune(id: number): Promise<Finetune>;
  deleteFinetune(id: number): Promise<void>;
  exportAdapter(id: number, folder: string): Promise<Exported>;
  /** Shows the folder of an adapter in the system's program for files. */
  openAdapterFolder(id: number): Promise<void>;

  /** Pairs of the catalogue, those on this machine first. */
  knownPairs(): Promise<KnownPair[]>;
  /** Whether a target and a draft can work together, token by token. */
  checkPair(target: string, drafter: Drafter): Promise<PairCheck>;
  labPrompts(): Promise<LabPrompt[]>;
  startSpeculation(request: SpeculationRequest): Promise<Job>;
  /** A measured pair, by its run. */
  loadSpeculation(run: number): Promise<Speculation>;

  mmluSource(): Promise<MmluSource>;
  /** Checks the official folder, archive or parquet files, and keeps them as the source. */
  useMmlu(path: string): Promise<MmluSource>;
  useStarterMmlu(): Promise<MmluSource>;
  fetchMmlu(): Promise<Job>;
  mmluSubjects(): Promise<MmluSubject[]>;

  /** All jobs now, and again at each change, for as long as the window lives. */
  watchJobs(onChange: (jobs: Job[]) => void): Promise<void>;
  cancelJob(id: number): Promise<void>;
  pauseJob(id: number): Promise<void>;
  resumeJob(id: number): Promise<void>;
  dismissJob(id: number): Promise<void>;

  listScorecards(): Promise<ScorecardHead[]>;
  loadScorecard(id: number): Promise<Scorecard>;
  listRuns(): Promise<RunSummary[]>;
  runDetails(id: number): Promise<RunDetails>;
  deleteRun(id: number): Promise<void>;
  compareRuns(a: number, b: number): Promise<RunComparison>;
  exportResults(request: ExportRequest): Promise<Exported>;
  /** What all stored runs say together, against the models' size. */
  storedCharts(): Promise<ChartData[]>;
  /** The place of each model in the order of first use. */
  identities(): Promise<ModelIdentity[]>;

  /** Opens a page of the hub in the person's browser; no other address. */
  openPage(url: string): Promise<void>;

  settings(): Promise<Settings>;
  saveSettings(settings: Settings): Promise<void>;
  about(): Promise<About>;

  /** Asks for a .gguf file; null when the person closes the dialog. */
  pickModelFile(): Promise<string | null>;
  /** Asks for a model folder; null when the person closes the dialog. */
  pickModelFolder(): Promise<string | null>;
  /** Asks for MMLU's official archive or a parquet file; null when the person closes the dialog. */
  pickMmluFile(): Promise<string | null>;
  /** Asks for MMLU's official folder; null when the person closes the dialog. */
  pickMmluFolder(): Promise<string | null>;
  /** Asks for a text file; null when the person closes the dialog. */
  pickTextFile(): Promise<string | null>;
  /** Asks for a dataset; null when the person closes the dialog. */
  pickDataset(): Promise<string | null>;
  /** Asks for a folder that gets an adapter; null when the person closes the dialog. */
  pickAdapterFolder(): Promise<string | null>;
  /** Asks where to write a model file, with this name to begin with; null when the person closes the dialog. */
  pickGgufPath(name: string): Promise<string | null>;
  /** Asks where to write an export, with this name to begin with; null when the person closes the dialog. */
  pickExportPath(name: string, format: ExportFormat): Promise<string | null>;
  /** Returns how to stop listening. */
  onFileDrop(onDrop: (drop: FileDrop) => void): Promise<() => void>;
}

const CODES = ["worker_died", "cancelled", "busy", "needs_token", "licence_not_accepted", "access_denied"] as const;

/** Whatever was thrown, as the error that the window shows. */
export function asApiError(thrown: unknown): ApiError {
  if (typeof thrown === "object" && thrown !== null && "message" in thrown) {
    const { code, message, link } = thrown as { code?: unknown; message: unknown; link?: unknown };
    const known = CODES.find((name) => name === code) ?? "failed";
    return typeof link === "string"
      ? { code: known, message: String(message), link }
      : { code: known, message: String(message) };
  }
  return { code: "failed", message: String(thrown) };
}

/** A gated repository that did not let this account in: the three cases that a person can mend on a page. */
export function isGate(error: ApiError): boolean {
  return error.code === "needs_token" || error.code === "licence_not_accepted" || error.code === "access_denied";
}
