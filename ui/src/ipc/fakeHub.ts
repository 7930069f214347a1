// The hub of the fake program: downloads that get on, stop and go on, the three gates, a token, search, quantizing and
// time-lapses. Never part of a production build.
import { CHECKPOINTS, fakeAdvice, fakeFit, fakeLapse, fakeQuants, fakeRunsHere, FOUND, known } from "./fakeCatalogue";
import { failed, FakeJobs } from "./fakeJobs";
import type {
  Advice, ApiError, ConvertRequest, DiskUsage, DownloadPlan, Fit, FoundModel, HubAccount, Job, ModelEntry, QuantChoice, RunsHere, TimeLapse,
  TimeLapseHead, TimeLapseRequest,
} from "./index";

/** Beats that a download takes. */
const BEATS = 40;

interface Lapse {
  id: number;
  request: TimeLapseRequest;
  createdAt: number;
  done: number;
}

export class FakeHub extends FakeJobs {
  /** Downloads stop here (a share of 1) until it is raised. */
  holdAt = 1;
  token: string | null = null;
  /** The next search fails with this. */
  searchError: ApiError | null = null;
  freeDiskBytes = 64e9;
  lapses: Lapse[] = [];
  /** Every quantization asked for, in order. */
  converted: ConvertRequest[] = [];
  /** Pages opened in the browser. */
  opened: string[] = [];
  readonly #fetches = new Map<number, string>();

  async modelFit(id: string, context: number | null): Promise<Fit> {
    return fakeFit(this.modelOf(id).bytes ?? 0, context ?? 2048);
  }

  async whatRunsHere(): Promise<RunsHere> {
    return fakeRunsHere();
  }

  async diskUsage(): Promise<DiskUsage> {
    const of = (source: ModelEntry["source"]): number => this.models.filter((model) => model.source === source).reduce((sum, model) => sum + (model.bytes ?? 0), 0);
    return {
      own_bytes: of("imported") + of("quantized") + 4_200_000,
      hub_bytes: of("hub_cache"),
      hub_folder: "/home/me/.cache/huggingface/hub",
      free_bytes: this.freeDiskBytes,
      words: `Billion takes ${((of("imported") + of("quantized")) / 1e9).toFixed(1)} GB, models of the hub ${(of("hub_cache") / 1e9).toFixed(1)} GB in /home/me/.cache/huggingface/hub; 64.0 GB are free`,
    };
  }

  async advice(): Promise<Advice[]> {
    return fakeAdvice().map((advice) => ({ ...advice, installed: this.models.some((model) => model.id === advice.model && model.installed) }));
  }

  async openPage(url: string): Promise<void> {
    if (!url.startsWith("https://huggingface.co/")) throw failed(`${url} is no page of the hub`);
    this.opened.push(url);
  }

  // ------------------------------------------------------------ downloads

  async planDownloads(references: string[]): Promise<DownloadPlan> {
    const models = references.map((id) => {
      const model = this.models.find((other) => other.id === id.split("@")[0]);
      const installed = this.models.some((other) => other.id === id && other.installed);
      return { id, name: model?.name ?? id, bytes: installed ? 0 : this.#bytes(id), installed, gated: model?.known?.gated ?? false };
    });
    return {
      models,
      bytes: models.reduce((sum, model) => sum + model.bytes, 0),
      estimated: true,
      free_disk_bytes: this.freeDiskBytes,
      folder: "/home/me/.cache/huggingface/hub",
    };
  }

  async startDownload(reference: string): Promise<Job> {
    const name = this.models.find((model) => model.id === reference)?.name ?? reference;
    const job = this.newJob({ title: `Download of ${name}`, total: Math.round(this.#bytes(reference) / 1000), model: reference, state: "running" });
    this.#fetches.set(job.id, reference);
    void this.#fetch(job.id);
    return job;
  }

  async startContenders(): Promise<Job[]> {
    const wanted = this.models.filter((model) => model.known?.article === true && !model.installed);
    return Promise.all(wanted.map((model) => this.startDownload(model.id)));
  }

  resumeFetching(id: number): void {
    if (this.#fetches.has(id)) void this.#fetch(id);
  }

  async #fetch(id: number): Promise<void> {
    const reference = this.#fetches.get(id) ?? "";
    const { total } = this.jobOf(id);
    await this.beat();
    const gate = this.#gate(reference);
    if (gate !== null) {
      this.changeJob(id, { state: "failed", error: gate, rate: null, eta_s: null });
      return;
    }
    for (let done = Math.round((this.jobOf(id).done / total) * BEATS); done <= BEATS; done += 1) {
      if (!this.isRunning(id)) return;
      this.changeJob(id, {
        step: done === BEATS ? "checks model.safetensors" : `${Math.round((total * done) / BEATS / 1000)} MB of ${Math.round(total / 1000)} MB`,
        done: Math.round((total * done) / BEATS),
        rate: { per_s: 31.2e6, unit: "bytes" },
        eta_s: ((1 - done / BEATS) * total * 1000) / 31.2e6,
      });
      do await this.beat();
      while (done >= this.holdAt * BEATS && this.holdAt < 1 && this.isRunning(id));
    }
    if (!this.isRunning(id)) return;
    this.#install(reference, total * 1000);
    this.changeJob(id, { state: "done", step: "", rate: null, eta_s: null });
  }

  #install(reference: string, bytes: number): void {
    const [id, revision] = reference.split("@");
    const of = this.models.find((model) => model.id === id);
    const model: ModelEntry = {
      ...(of ?? this.models[0] as ModelEntry),
      id: reference,
      name: revision === undefined ? (of?.name ?? (reference.split("/").at(-1) ?? reference)) : `${of?.name ?? id} at ${revision}`,
      bytes,
      quant: reference.endsWith(".gguf") ? "Q4_0" : "BF16",
      installed: true,
      source: "hub_cache",
      fit: fakeFit(bytes),
      path: `/home/me/.cache/huggingface/hub/models--${reference.replaceAll("/", "--")}`,
      problem: null,
      known: known(id ?? ""),
    };
    this.models = [...this.models.filter((other) => other.id !== reference), model];
  }

  #bytes(reference: string): number {
    const found = FOUND.flatMap((repo) => repo.choices).find((choice) => choice.id === reference);
    return found?.bytes ?? known(reference.split("@")[0] ?? "")?.download_bytes ?? 2.2e9;
  }

  #gate(reference: string): ApiError | null {
    const of = known(reference);
    if (of?.gated !== true) return null;
    if (this.token === null) {
      return {
        code: "needs_token",
        message: `${of.repository} is given to accounts that accepted its licence, and Billion has no token of yours: make one, and paste it here`,
        link: "https://huggingface.co/settings/tokens",
      };
    }
    if (this.token.includes("unaccepted")) {
      return { code: "licence_not_accepted", message: `your account has not accepted the licence of ${of.repository}: accept it on its page, then try again`, link: of.page };
    }
    if (this.token.includes("denied")) {
      return { code: "access_denied", message: `${of.repository} refuses your account: its publisher decided so on the page`, link: of.page };
    }
    return null;
  }

  // ------------------------------------------------------------ search, account

  async searchModels(keyword: string): Promise<FoundModel[]> {
    await this.beat();
    const error = this.searchError;
    this.searchError = null;
    if (error !== null) throw error;
    const wanted = keyword.toLowerCase();
    return FOUND.filter((found) => found.repository.toLowerCase().includes(wanted)).map((found) => ({ ...found, choices: [] }));
  }

  async lookUpModel(text: string): Promise<FoundModel> {
    await this.beat();
    const wanted = text.replace(/^hf:|^https:\/\/huggingface\.co\//, "").toLowerCase();
    const found = FOUND.find(({ repository }) => wanted.startsWith(repository.toLowerCase()));
    if (found === undefined) throw failed(`the hub has no model called ${text} that everyone may see: check the name`);
    const here = (id: string): boolean => this.models.some((model) => model.id === id && model.installed);
    return { ...structuredClone(found), choices: found.choices.map((choice) => ({ ...choice, installed: here(choice.id) })) };
  }

  async hubAccount(): Promise<HubAccount> {
    return {
      endpoint: "https://huggingface.co",
      cache: "/home/me/.cache/huggingface/hub",
      token: this.token === null ? "nowhere" : "file",
      token_end: this.token === null ? null : `…${this.token.slice(-4)}`,
      user: null,
      note: this.token === null ? null : "There is no keychain here, so the token lies in a file that only you can read: /home/me/.cache/huggingface/token",
      tokens_page: "https://huggingface.co/settings/tokens",
    };
  }

  async checkHubAccount(): Promise<HubAccount> {
    await this.beat();
    return { ...(await this.hubAccount()), user: this.token === null ? null : "ada" };
  }

  async saveHubToken(token: string): Promise<HubAccount> {
    await this.beat();
    if (!token.startsWith("hf_")) throw failed("the hub does not accept this token: make one with the right to read at https://huggingface.co/settings/tokens");
    this.token = token;
    return this.checkHubAccount();
  }

  async forgetHubToken(): Promise<HubAccount> {
    this.token = null;
    return this.hubAccount();
  }

  // ------------------------------------------------------------ quantize, checkpoints

  async quantChoices(model: string): Promise<QuantChoice[]> {
    return fakeQuants(this.modelOf(model));
  }

  async startConvert(request: ConvertRequest): Promise<Job> {
    this.converted.push(request);
    const model = this.modelOf(request.model);
    const id = `${model.id}:${request.quant}`;
    const bytes = fakeQuants(model).find((choice) => choice.quant === request.quant)?.bytes ?? 0;
    const job = this.newJob({ title: `${model.name} to ${request.quant.toUpperCase()}`, total: model.bytes ?? 1, model: id, pausable: false });
    void (async () => {
      for (let done = 0; done <= BEATS; done += 1) {
        if (this.jobOf(job.id).state === "cancelled") return;
        this.changeJob(job.id, { state: "running", step: `layer ${done} of ${BEATS}`, done: Math.round((job.total * done) / BEATS), rate: { per_s: 4e8, unit: "bytes" }, eta_s: (BEATS - done) / 8 });
        await this.beat();
      }
      this.models = [...this.models, { ...model, id, quant: request.quant.toUpperCase(), bytes, source: "quantized", fit: fakeFit(bytes), path: `/home/me/.local/share/billion/models/${id}.gguf` }];
      this.changeJob(job.id, { state: "done", step: "", rate: null, eta_s: null });
    })();
    return job;
  }

  async checkpoints(model: string): Promise<number[]> {
    if (known(model)?.checkpoints !== true) throw failed(`${model} has no checkpoints.`);
    return CHECKPOINTS;
  }

  async startTimeLapse(request: TimeLapseRequest): Promise<Job> {
    const lapse: Lapse = { id: this.nextId++, request, createdAt: this.now(), done: 0 };
    this.lapses = [lapse, ...this.lapses];
    const job = this.newJob({ title: `Time-lapse of ${this.modelOf(request.model).name}`, total: request.steps.length, step: "step 0" });
    void (async () => {
      while (lapse.done < request.steps.length && this.isRunning(job.id)) {
        await this.beat();
        lapse.done += 1;
        this.changeJob(job.id, { done: lapse.done, step: `step ${request.steps[lapse.done] ?? ""}` });
      }
      if (this.isRunning(job.id)) this.changeJob(job.id, { state: "done", step: "" });
    })();
    return job;
  }

  async timeLapses(): Promise<TimeLapseHead[]> {
    return this.lapses.map((lapse) => fakeLapse(lapse.id, lapse.request, lapse.createdAt, lapse.done).head);
  }

  async timeLapse(id: number): Promise<TimeLapse> {
    const lapse = this.lapses.find((other) => other.id === id);
    if (lapse === undefined) throw failed(`There is no time-lapse ${id}.`);
    return fakeLapse(id, lapse.request, lapse.createdAt, lapse.done);
  }
}
