// The real program behind the window: the generated commands, the file dialog and the drop of files.
import { Channel } from "@tauri-apps/api/core";
import { getCurrentWebview } from "@tauri-apps/api/webview";
import { open, save, type OpenDialogOptions } from "@tauri-apps/plugin-dialog";
import { commands } from "./bindings";
import { asApiError, type ChatEvent, type ChatSend, type ExportFormat, type FileDrop, type Ipc, type Job } from "./index";

/** How long the last events of a channel may take after the command's own result. */
const LAST_EVENT_MS = 5000;

/** Waits for a command; whatever it throws becomes an `ApiError`. */
async function value<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (thrown) {
    throw asApiError(thrown);
  }
}

async function done(call: Promise<unknown>): Promise<void> {
  await value(call);
}

async function pick(options: OpenDialogOptions): Promise<string | null> {
  const picked: unknown = await value(open({ ...options, multiple: false }));
  return typeof picked === "string" ? picked : null;
}

const EXPORT_NAMES: Record<ExportFormat, string> = {
  html: "Report",
  csv: "Table",
  json: "JSON",
  png: "Picture",
  svg: "Drawing",
};

async function pickExportPath(name: string, format: ExportFormat): Promise<string | null> {
  return value(
    save({
      title: "Export",
      defaultPath: name,
      filters: [{ name: EXPORT_NAMES[format], extensions: [format] }],
    }),
  );
}

/** The result of a command may overtake the last events of its channel, so the end is when both have come. */
async function sendChat(send: ChatSend, onEvent: (event: ChatEvent) => void): Promise<void> {
  const events = new Channel<ChatEvent>();
  const last = new Promise<void>((resolve) => {
    events.onmessage = (event) => {
      onEvent(event);
      if (event.kind === "done") resolve();
    };
  });
  await value(commands.sendChat(send, events));
  await Promise.race([last, new Promise((resolve) => setTimeout(resolve, LAST_EVENT_MS))]);
}

export const tauriIpc: Ipc = {
  listModels: () => value(commands.listModels()),
  modelDetails: (id) => value(commands.modelDetails(id)),
  importModel: (path) => value(commands.importModel(path)),
  removeModel: (id) => done(commands.removeModel(id)),
  modelFit: (id, context) => value(commands.modelFit(id, context)),
  whatRunsHere: () => value(commands.whatRunsHere()),
  diskUsage: () => value(commands.diskUsage()),
  advice: () => value(commands.advice()),

  planDownloads: (references) => value(commands.planDownloads(references)),
  startDownload: (reference) => value(commands.startDownload(reference)),
  startContenders: () => value(commands.startContenders()),
  searchModels: (keyword) => value(commands.searchModels(keyword)),
  lookUpModel: (text) => value(commands.lookUpModel(text)),
  hubAccount: () => value(commands.hubAccount()),
  checkHubAccount: () => value(commands.checkHubAccount()),
  saveHubToken: (token) => value(commands.saveHubToken(token)),
  forgetHubToken: () => value(commands.forgetHubToken()),

  quantChoices: (model) => value(commands.quantChoices(model)),
  startConvert: (request) => value(commands.startConvert(request)),

  checkpoints: (model) => value(commands.checkpoints(model)),
  startTimeLapse: (request) => value(commands.startTimeLapse(request)),
  timeLapses: () => value(commands.timeLapses()),
  timeLapse: (id) => value(commands.timeLapse(id)),

  listChats: (search) => value(commands.listChats(search)),
  loadChat: (id) => value(commands.loadChat(id)),
  deleteChat: (id) => done(commands.deleteChat(id)),
  sendChat,
  stopChat: (chat) => done(commands.stopChat(chat)),

  forecastScorecards: (models, stop) => value(commands.forecastScorecards(models, stop)),
  startScorecard: (request) => value(commands.startScorecard(request)),
  startBench: (request) => value(commands.startBench(request)),
  finetuneDefaults: (rows) => value(commands.finetuneDefaults(rows)),
  lookAtDataset: (model, data, options) => value(commands.lookAtDataset(model, data, options)),
  sampleDataset: () => value(commands.sampleDataset()),
  forecastFinetune: (request) => value(commands.forecastFinetune(request)),
  startFinetune: (request) => value(commands.startFinetune(request)),
  listFinetunes: () => value(commands.listFinetunes()),
  loadFinetune: (id) => value(commands.loadFinetune(id)),
  deleteFinetune: (id) => done(commands.deleteFinetune(id)),
  exportAdapter: (id, folder) => value(commands.exportAdapter(id, folder)),
  openAdapterFolder: (id) => done(commands.openAdapterFolder(id)),
  knownPairs: () => value(commands.knownPairs()),
  checkPair: (target, drafter) => value(commands.checkPair(target, drafter)),
  labPrompts: () => value(commands.labPrompts()),
  startSpeculation: (request) => value(commands.startSpeculation(request)),
  loadSpeculation: (run) => value(commands.loadSpeculation(run)),
  mmluSource: () => value(commands.mmluSource()),
  useMmlu: (path) => value(commands.useMmlu(path)),
  useStarterMmlu: () => value(commands.useStarterMmlu()),
  fetchMmlu: () => value(commands.fetchMmlu()),
  mmluSubjects: () => value(commands.mmluSubjects()),
  watchJobs: (onChange) => {
    const events = new Channel<Job[]>();
    events.onmessage = onChange;
    return done(commands.watchJobs(events));
  },
  cancelJob: (id) => done(commands.cancelJob(id)),
  pauseJob: (id) => done(commands.pauseJob(id)),
  resumeJob: (id) => done(commands.resumeJob(id)),
  dismissJob: (id) => done(commands.dismissJob(id)),

  listScorecards: () => value(commands.listScorecards()),
  loadScorecard: (id) => value(commands.loadScorecard(id)),
  listRuns: () => value(commands.listRuns()),
  runDetails: (id) => value(commands.runDetails(id)),
  deleteRun: (id) => done(commands.deleteRun(id)),
  compareRuns: (a, b) => value(commands.compareRuns(a, b)),
  exportResults: (request) => value(commands.exportResults(request)),
  storedCharts: () => value(commands.storedCharts()),
  identities: () => value(commands.identities()),

  openPage: (url) => done(commands.openPage(url)),
  settings: () => value(commands.settings()),
  saveSettings: (settings) => done(commands.saveSettings(settings)),
  about: () => value(commands.about()),

  pickModelFile: () =>
    pick({ title: "Import a model file", filters: [{ name: "GGUF model", extensions: ["gguf"] }] }),
  pickModelFolder: () => pick({ title: "Import a model folder", directory: true }),
  pickMmluFile: () =>
    pick({
      title: "MMLU: the official archive, or a parquet file",
      filters: [{ name: "MMLU", extensions: ["tar", "gz", "tgz", "zip", "parquet"] }],
    }),
  pickMmluFolder: () => pick({ title: "MMLU: the official folder, with test and dev", directory: true }),
  pickTextFile: () => pick({ title: "Text to measure on", filters: [{ name: "Text", extensions: ["txt", "md", "text", "raw"] }] }),
  pickDataset: () =>
    pick({
      title: "Dataset to train on",
      filters: [{ name: "Dataset", extensions: ["jsonl", "json", "csv", "tsv", "parquet", "txt"] }],
    }),
  pickAdapterFolder: () => pick({ title: "Folder for the adapter", directory: true }),
  pickGgufPath: (name) =>
    value(save({ title: "Merged model", defaultPath: name, filters: [{ name: "GGUF model", extensions: ["gguf"] }] })),
  pickExportPath,
  onFileDrop: (onDrop) =>
    getCurrentWebview().onDragDropEvent(({ payload }) => {
      const drop: FileDrop =
        payload.type === "drop"
          ? { kind: "drop", paths: payload.paths }
          : { kind: payload.type === "leave" ? "leave" : "over" };
      onDrop(drop);
    }),
};
