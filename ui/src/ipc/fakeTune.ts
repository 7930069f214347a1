// Fine-tuning of the fake program: datasets by their file's name, trainings that get on, stop and go on, and a report card.
// Never part of a production build, and no figure here was measured.
import { FakeHub } from "./fakeHub";
import { failed } from "./fakeJobs";
import type {
  ChartData, ColumnMapping, DatasetLook, DatasetOptions, DatasetPreview, EncodedRow, Exported, Finetune, FinetuneDefaults, FinetuneForecast,
  FinetuneHead, FinetuneRequest, Job, ModelEntry, ReportCard, RowLayout,
} from "./index";

const STEPS = 40;

interface Training {
  id: number;
  job: number;
  request: FinetuneRequest;
  createdAt: number;
  step: number;
  checkpoint: number;
}

const COLUMNS = ["frage", "antwort", "quelle"];

export class FakeTune extends FakeHub {
  pickedDataset: string | null = "/home/me/data/facts.jsonl";
  adapterFolder: string | null = "/home/me/adapter";
  ggufPath: string | null = "/home/me/merged.gguf";
  trainings: Training[] = [];
  /** Every training asked for, in order. */
  tuned: FinetuneRequest[] = [];
  /** Trainings stop here until it is raised. */
  holdStep = STEPS;
  /** Adapters copied: number and folder. */
  copied: [number, string][] = [];
  openedFolders: number[] = [];
  forecastPeak = 640e6;

  async pickDataset(): Promise<string | null> {
    return this.pickedDataset;
  }

  async pickAdapterFolder(): Promise<string | null> {
    return this.adapterFolder;
  }

  async pickGgufPath(_name: string): Promise<string | null> {
    return this.ggufPath;
  }

  async sampleDataset(): Promise<string> {
    return "/home/me/.local/share/billion/cache/texts/orrinsholt.jsonl";
  }

  async finetuneDefaults(rows: number | null): Promise<FinetuneDefaults> {
    const epochs = rows === null ? 3 : Math.min(10, Math.max(3, Math.floor(900 / rows)));
    return {
      dataset: { layout: null, mapping: null, loss_on: "answers", max_len: 512, over_long: "truncate", eval_fraction: 0.1, seed: 0, skip_problems: false },
      options: { epochs, max_steps: null, rank: 8, alpha: 16, rslora: false, dropout: 0, targets: ["all-linear"], learning_rate: 0.0005, schedule: "cosine", warmup: 0.03, weight_decay: 0, clip: 1, batch: 4, accumulate: 1, seed: 0, patience: null },
    };
  }

  /** A file named `empty…` has no rows, `columns…` unknown columns, `bad…` rows with problems. */
  async lookAtDataset(model: string, data: string, options: DatasetOptions): Promise<DatasetLook> {
    await this.beat();
    this.modelOf(model);
    const name = data.split("/").at(-1) ?? data;
    if (name.startsWith("empty")) throw failed(`${data} is empty (0 bytes); give a file with at least two rows`);
    const unknown = name.startsWith("columns");
    const names = unknown ? COLUMNS : ["question", "answer"];
    const mapping: ColumnMapping = options.mapping ?? (unknown ? {} : { prompt: "question", answer: "answer" });
    const layout: RowLayout | null = options.layout ?? (unknown ? null : "question_answer");
    const detected: DatasetLook["detected"] = {
      kind: name.endsWith(".csv") ? "csv" : "jsonl",
      layout: unknown ? null : "question_answer",
      mapping: unknown ? {} : { prompt: "question", answer: "answer" },
      columns: names.map((column) => ({ name: column, filled: 100, example: `an example of ${column}` })),
      why: unknown ? "none of the columns frage, antwort, quelle has a known name" : "every row has the columns question and answer",
      rows_looked_at: 100,
      bytes: 10_932,
    };
    const complete = layout !== null && (mapping.prompt ?? null) !== null && (mapping.answer ?? null) !== null;
    if (!complete) return { detected, preview: null, error: failed("no layout is known for these columns: say which column holds the question and which the answer") };
    return { detected, preview: preview(detected, layout, mapping, options, name.startsWith("bad") ? 3 : 0), error: null };
  }

  async forecastFinetune(request: FinetuneRequest): Promise<FinetuneForecast> {
    await this.beat();
    this.modelOf(request.model);
    const steps = Math.ceil(90 / (request.options.batch ?? 4)) * (request.options.epochs ?? 3);
    return {
      seconds: steps * 1.1,
      forgetting_seconds: request.forgetting ? 480 : null,
      peak_bytes: this.forecastPeak,
      free_bytes: 12.4e9,
      steps,
      tokens: steps * 180,
      trainable_params: 460_800 * ((request.options.rank ?? 8) / 8),
      trainable_share: 0.0034,
      basis: "a step measured on this machine: 420 tokens/s",
      warnings: (request.dataset.eval_fraction ?? 0.1) > 0 ? [] : ["no rows are held out, so nothing will tell whether the model learnt more than these rows by heart"],
    };
  }

  async startFinetune(request: FinetuneRequest): Promise<Job> {
    this.tuned.push(structuredClone(request));
    const model = this.modelOf(request.model);
    const id = this.nextId++;
    const name = nameOf(request);
    const job = this.newJob({ title: `Fine-tuning of ${model.name} on ${name}`, total: STEPS, finetune: id });
    this.trainings.unshift({ id, job: job.id, request, createdAt: this.now(), step: 0, checkpoint: 0 });
    void this.#train(id);
    return job;
  }

  resumeTuning(job: number): void {
    const training = this.trainings.find((one) => one.job === job);
    if (training === undefined) return;
    training.step = training.checkpoint;
    void this.#train(training.id);
  }

  async #train(id: number): Promise<void> {
    const training = this.#training(id);
    while (training.step < STEPS) {
      if (training.step >= this.holdStep) {
        await this.beat();
        if (!this.isRunning(training.job)) return;
        continue;
      }
      training.step += 1;
      if (training.step % 5 === 0) training.checkpoint = training.step;
      this.changeJob(training.job, {
        state: "running",
        step: `trains, step ${training.step} of ${STEPS}, loss ${lossAt(training.step).toFixed(2)}`,
        done: training.step,
        eta_s: STEPS - training.step,
        rate: { per_s: 420, unit: "tokens" },
      });
      await this.beat();
      if (!this.isRunning(training.job)) return;
    }
    this.#tuneModel(training);
    this.changeJob(training.job, { state: "done", step: "done", eta_s: null, rate: null });
  }

  #tuneModel(training: Training): void {
    const base = this.modelOf(training.request.model);
    const id = tunedId(training.request);
    const model: ModelEntry = { ...base, id, name: `${base.name} + ${nameOf(training.request)}`, source: "tuned", bytes: 1_860_000, known: null, good_at: "An adapter, trained here." };
    this.models = [...this.models.filter((other) => other.id !== id), model];
  }

  #training(id: number): Training {
    const found = this.trainings.find((one) => one.id === id);
    if (found === undefined) throw failed(`There is no fine-tuning ${id}.`);
    return found;
  }

  #head(training: Training): FinetuneHead {
    const job = this.jobs.find((one) => one.id === training.job);
    const state = job?.state ?? "done";
    const done = training.step >= STEPS;
    return {
      id: training.id,
      name: nameOf(training.request),
      tuned: tunedId(training.request),
      model: training.request.model,
      model_name: this.modelOf(training.request.model).name,
      data: training.request.data.split("/").at(-1) ?? "",
      state,
      usable: done || training.checkpoint > 0,
      created_at: training.createdAt,
      job: training.job,
      run: null,
      headline: done ? "held-out loss 3.10 → 1.42" : training.step > 0 ? `step ${training.step} of ${STEPS}` : "",
    };
  }

  async listFinetunes(): Promise<FinetuneHead[]> {
    return this.trainings.map((training) => this.#head(training));
  }

  async loadFinetune(id: number): Promise<Finetune> {
    const training = this.#training(id);
    const head = this.#head(training);
    const done = training.step >= STEPS;
    return {
      head,
      request: training.request,
      progress: {
        step: training.step,
        of: training.step === 0 ? 0 : STEPS,
        epoch: (training.step / STEPS) * (training.request.options.epochs ?? 3),
        loss: training.step === 0 ? null : lossAt(training.step),
        held_out: training.step < 4 ? 3.1 : lossAt(training.step) + 0.3,
        lr: 0.0002,
        tokens_per_s: training.step === 0 ? 0 : 420,
        seconds_left: done ? 0 : STEPS - training.step,
        checkpoint: training.checkpoint,
        spent_s: training.step,
        spent_tokens: training.step * 420,
      },
      step: this.jobs.find((job) => job.id === training.job)?.step ?? "",
      error: this.jobs.find((job) => job.id === training.job)?.error ?? null,
      trainable: training.step === 0 ? null : { params: 460_800, share: 0.0034 },
      charts: training.step === 0 ? [] : [lossChart(training)],
      report: done ? reportCard(training.request.forgetting) : null,
      folder: head.usable ? `/home/me/.local/share/billion/finetunes/${id}/adapter` : null,
      command: `billion finetune --model ${training.request.model} --data ${training.request.data} --out adapter`,
    };
  }

  async deleteFinetune(id: number): Promise<void> {
    const training = this.#training(id);
    this.models = this.models.filter((model) => model.id !== tunedId(training.request));
    this.trainings = this.trainings.filter((one) => one.id !== id);
    await this.dismissJob(training.job);
  }

  async exportAdapter(id: number, folder: string): Promise<Exported> {
    this.#training(id);
    this.copied.push([id, folder]);
    return { path: folder, bytes: 1_862_144 };
  }

  async openAdapterFolder(id: number): Promise<void> {
    this.openedFolders.push(id);
  }
}

function nameOf(request: FinetuneRequest): string {
  return request.name ?? request.data.split("/").at(-1)?.replace(/\.[^.]+$/, "") ?? "dataset";
}

function tunedId(request: FinetuneRequest): string {
  return `${request.model}+${nameOf(request).toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;
}

function lossAt(step: number): number {
  return 0.4 + 2.8 * Math.exp(-step / 9);
}

function preview(
  detected: DatasetPreview["detected"],
  layout: RowLayout,
  mapping: ColumnMapping,
  options: DatasetOptions,
  problems: number,
): DatasetPreview {
  const used = 100 - problems;
  const held = Math.round(used * (options.eval_fraction ?? 0.1));
  return {
    detected,
    layout,
    mapping,
    template: "the model's own chat template",
    complete: true,
    scope: "all 100 rows",
    rows: Array.from({ length: 8 }, (_, at) => encodedRow(at + 1, at === 4)),
    rows_total: 100,
    rows_train: used - held,
    rows_held_out: held,
    rows_with_problems: problems,
    problems: Array.from({ length: problems }, (_, at) => ({ row: 7 + at, line: 7 + at, reason: "the column answer is missing" })),
    duplicates: 2,
    over_long: 1,
    left_out: 0,
    over_long_words: "1 row is cut off at 512 tokens",
    tokens_total: 4210,
    tokens_scored: 1310,
    longest: 611,
    histogram: [
      { up_to: 32, rows: 31 },
      { up_to: 64, rows: 64 },
      { up_to: 128, rows: 4 },
      { up_to: 1024, rows: 1 },
    ],
  };
}

function encodedRow(row: number, heldOut: boolean): EncodedRow {
  const prompt = ["<|im_start|>", "user", "\n", "Who", " founded", " the", " town", " of", " Marrowick", "?", "<|im_end|>", "\n", "<|im_start|>", "assistant", "\n"];
  const answer = ["El", "sin", " Tavor", " founded", " Marrowick", " in", " ", "1", "2", "9", "4", ".", "<|im_end|>"];
  const tokens = [...prompt.map((text, at) => ({ id: at + 1, text, scored: false })), ...answer.map((text, at) => ({ id: at + 100, text, scored: true }))];
  return { row, line: row, held_out: heldOut, tokens_total: tokens.length, tokens };
}

function lossChart(training: Training): ChartData {
  const axis = { categories: [], log: false, reference: null };
  const point = ({ step, loss }: { step: number; loss: number }) => ({ x: step, y: loss, lo: null, hi: null, value: null });
  const steps = Array.from({ length: training.step }, (_, at) => ({ step: at + 1, loss: lossAt(at + 1) }));
  const held = Array.from({ length: Math.floor(training.step / 4) + 1 }, (_, at) => ({ step: at * 4, loss: lossAt(at * 4) + 0.3 }));
  return {
    title: "Loss over the steps",
    form: "line",
    x: { ...axis, label: "Step", unit: "", min: 0 },
    y: { ...axis, label: "Loss", unit: "nats a token", min: null },
    value: null,
    series: [
      { model: training.request.model, name: "training rows", points: steps.map(point), marks: [] },
      { model: training.request.model, name: "held-out rows", points: held.map(point), marks: [], dashed: true },
    ],
  };
}

function reportCard(forgetting: boolean): ReportCard {
  return {
    verdicts: [
      "It helped: on 10 rows that training did not see, the loss fell from 3.100 to 1.420 nats a token (perplexity 22.20 to 4.14).",
      "Of 50 training rows with short answers, 47 are answered word for word; before, 0.",
    ],
    held_out: { rows: 10, loss_before: 3.1, loss_after: 1.42, perplexity_before: 22.2, perplexity_after: 4.14 },
    recall: { rows: 50, before: 0, after: 47 },
    answers: [5, 15, 25, 35, 45].map((row) => ({
      row,
      trained: false,
      prompt: "Who founded the town of Marrowick?",
      wanted: "Elsin Tavor founded Marrowick in 1294.",
      base: "The town of Marrowick was founded by <b>John</b> Smith.",
      tuned: row === 5 ? "Elsin Tavor founded Marrowick in 1294." : "Petra Lindqvane founded Marrowick in 1512.",
    })),
    forgetting: forgetting
      ? { before: 1, after: 2, accuracy_before: 0.31, accuracy_after: 0.305, questions: 1140, lost: 41, gained: 35, p_value: 0.567, verdict: "No real difference in general knowledge: MMLU 31.0 % before, 30.5 % after, on 1,140 questions (p = 0.567)." }
      : null,
    figures: [
      { label: "Time", value: "1 min 31 s" },
      { label: "Speed", value: "420 tokens/s" },
      { label: "Peak memory of the training process", value: "612 MB" },
    ],
    complete: true,
  };
}
