// What the window can ask of the program: one typed interface with two implementations, Tauri's (tauri.ts) and an
// in-memory one for component tests and for the browser (fake.ts). Only this folder imports @tauri-apps.
import type {
  About,
  ApiError,
  BenchRequest,
  Chat,
  ChartData,
  ChatEvent,
  ChatSend,
  ChatSummary,
  Exported,
  ExportFormat,
  ExportRequest,
  Job,
  MmluSource,
  MmluSubject,
  ModelDetails,
  ModelEntry,
  ModelIdentity,
  RunComparison,
  RunDetails,
  RunSummary,
  Scorecard,
  ScorecardForecast,
  ScorecardHead,
  ScorecardRequest,
  Settings,
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
  /** Asks where to write an export, with this name to begin with; null when the person closes the dialog. */
  pickExportPath(name: string, format: ExportFormat): Promise<string | null>;
  /** Returns how to stop listening. */
  onFileDrop(onDrop: (drop: FileDrop) => void): Promise<() => void>;
}

/** Whatever was thrown, as the error that the window shows. */
export function asApiError(thrown: unknown): ApiError {
  if (typeof thrown === "object" && thrown !== null && "message" in thrown) {
    const { code, message } = thrown as { code?: unknown; message: unknown };
    const known = code === "worker_died" || code === "cancelled" || code === "busy";
    return { code: known ? code : "failed", message: String(message) };
  }
  return { code: "failed", message: String(thrown) };
}
