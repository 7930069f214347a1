// Invented models, scorecards and runs for component tests and for the browser. Never part of a production build, and
// no figure here was measured.
import { fakeCompletions } from "./fakeBench";
import { known } from "./fakeCatalogue";
import { fakeCharts, subjectChart } from "./fakeCharts";
import type {
  About,
  AnsweredQuestion,
  Badge,
  Figure,
  ModelDetails,
  ModelEntry,
  ReferenceScore,
  RunDetails,
  Scorecard,
  ScorecardRow,
  ScorecardSize,
} from "./index";

function entry(change: Partial<ModelEntry> & Pick<ModelEntry, "id" | "name">): ModelEntry {
  return {
    params: 1_100_048_384,
    architecture: "llama",
    quant: "Q4_0",
    bytes: 637_000_000,
    license: "Apache-2.0",
    publisher: "TinyLlama",
    context_len: 2048,
    installed: true,
    source: "imported",
    fit: { level: "well", words: "runs well: needs 0.8 GB, 12.4 GB free", sum: null },
    good_at: null,
    chat: true,
    path: `/home/me/models/${change.id}.gguf`,
    problem: null,
    known: known(change.id),
    ...change,
  };
}

export function fakeModels(): ModelEntry[] {
  return [
    entry({
      id: "starter",
      name: "SmolLM2 135M Instruct",
      params: 134_515_008,
      quant: "Q4_1",
      bytes: 98_300_000,
      publisher: "HuggingFaceTB",
      context_len: 8192,
      source: "starter",
      fit: { level: "well", words: "runs well: needs 0.2 GB, 12.4 GB free", sum: null },
      good_at: "Short answers and rewriting; fast on any machine.",
      path: "/usr/lib/Billion/starter/SmolLM2-135M-Instruct.Q4_1.gguf",
    }),
    entry({
      id: "tinyllama-1.1b-chat",
      name: "TinyLlama 1.1B Chat",
      good_at: "Plain conversation; trained on 3T tokens.",
    }),
    entry({
      id: "llama-3.2-1b",
      name: "Llama 3.2 1B Instruct",
      params: 1_235_814_400,
      quant: "Q8_0",
      bytes: 1_321_000_000,
      license: "Llama 3.2 Community",
      publisher: "Meta",
      context_len: 131_072,
      fit: { level: "tight", words: "tight: needs 2.1 GB, 2.4 GB free", sum: null },
    }),
    entry({
      id: "pythia-1b",
      name: "Pythia 1B",
      params: 1_011_781_632,
      architecture: "gpt_neox",
      quant: "F16",
      bytes: 2_024_000_000,
      publisher: "EleutherAI",
      chat: false,
      fit: { level: "too_big", words: "too big: needs 3.1 GB, 2.4 GB free", sum: null },
      good_at: "Research on training: 154 checkpoints.",
    }),
    entry({
      id: "broken",
      name: "broken.gguf",
      params: null,
      quant: null,
      license: null,
      publisher: null,
      context_len: null,
      fit: { level: "unknown", words: "unknown size", sum: null },
      problem: "broken.gguf ends at byte 1,024, but its header promises 291 tensors up to byte 98,300,000. Get it again.",
    }),
  ];
}

export function fakeDetails(model: ModelEntry): ModelDetails {
  return {
    entry: model,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    facts: [
      { label: "Architecture", value: model.architecture },
      { label: "Layers", value: "30" },
      { label: "Width", value: "576" },
      { label: "Heads", value: "9, of which 3 for keys and values" },
      { label: "Vocabulary", value: "49,152 tokens" },
      { label: "Tensors", value: "211 in Q4_1, 61 in F32" },
    ],
    chat_template: model.chat ? "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}{% endfor %}" : null,
  };
}

function figure(value: number, lo: number | null, hi: number | null, unit: string, how: string, run: number): Figure {
  return { value, lo, hi, unit, how, run };
}

const BASE: Record<string, { mmlu: number; code: number; joules: number; prefill: number; decode: number; memory: number; weights: number }> = {
  starter: { mmlu: 0.31, code: 0.05, joules: 0.11, prefill: 812, decode: 152.4, memory: 231e6, weights: 98.3e6 },
  "tinyllama-1.1b-chat": { mmlu: 0.26, code: 0.092, joules: 0.84, prefill: 140, decode: 53.7, memory: 902e6, weights: 637e6 },
  "llama-3.2-1b": { mmlu: 0.45, code: 0.27, joules: 1.12, prefill: 114, decode: 31.2, memory: 1.71e9, weights: 1.32e9 },
  "pythia-1b": { mmlu: 0.25, code: 0.018, joules: 1.9, prefill: 98, decode: 17.8, memory: 2.31e9, weights: 2.02e9 },
};

/** The steps of a row, in order. */
export const STAGES = ["mmlu", "humaneval", "speed", "memory"] as const;

const REFERENCES: Record<string, ReferenceScore[]> = {
  "tinyllama-1.1b-chat": [
    { task: "mmlu", value: 0.2592, kind: "published", shots: 5, source: "jzhang38/TinyLlama EVAL.md" },
    { task: "mmlu", value: 0.253, kind: "claimed", shots: null, source: "the article" },
    { task: "humaneval", value: 0.0915, kind: "published", shots: 0, source: "jzhang38/TinyLlama EVAL.md" },
  ],
  "llama-3.2-1b": [{ task: "mmlu", value: 0.493, kind: "published", shots: 5, source: "Meta model card" }],
  "pythia-1b": [{ task: "mmlu", value: 0.264, kind: "claimed", shots: null, source: "the article" }],
};

const BADGES: Record<string, Badge[]> = {
  "tinyllama-1.1b-chat": [{ task: "mmlu", matches: true, words: "matches published 25.9 % (5-shot, TinyLlama EVAL.md): within ±2.7 points" }],
  "llama-3.2-1b": [{ task: "mmlu", matches: false, words: "4.3 points below published 49.3 % (5-shot, Meta model card), outside ±2.7 points" }],
  "pythia-1b": [{ task: "mmlu", matches: null, words: "not comparable with 25.4 % (5-shot, EleutherAI evals): this run is 0-shot" }],
};

const NO_ENERGY =
  "energy: unavailable: /sys/class/powercap/intel-rapl:0/energy_uj may be read by root only. Give the permission with: sudo chmod a+r /sys/class/powercap/*/energy_uj";

/** `stage`: how many of the steps of a row are done (0 to 4). */
export function fakeRow(model: ModelEntry, size: ScorecardSize, stage: number, firstRun: number): ScorecardRow {
  const base = BASE[model.id] ?? { mmlu: 0.27, code: 0.06, joules: 1, prefill: 100, decode: 40, memory: 1e9, weights: 6e8 };
  const half = { quick: 0.088, standard: 0.027, full: 0.007 }[size];
  const code = stage > 1;
  const speed = stage > 2;
  const memory = stage > 3;
  const passed = { quick: 0.09, standard: 0.04, full: 0.04 }[size];
  return {
    model: model.id,
    name: model.name,
    quant: model.quant ?? "?",
    params: model.params ?? 0,
    mmlu:
      stage > 0
        ? figure(base.mmlu, base.mmlu - half, base.mmlu + half, "accuracy", "0-shot, 100 questions; 95 % Wilson interval.", firstRun)
        : null,
    prefill: speed
      ? figure(base.prefill, base.prefill * 0.96, base.prefill * 1.02, "tokens/s", "Median of 5 over 512 tokens.", firstRun + 2)
      : null,
    decode: speed
      ? figure(base.decode, base.decode * 0.97, base.decode * 1.01, "tokens/s", "Median of 5 over 64 tokens.", firstRun + 2)
      : null,
    humaneval: code
      ? figure(base.code, Math.max(0, base.code - passed), base.code + passed, "accuracy", "Greedy pass@1, 164 problems; 95 % Wilson interval.", firstRun + 1)
      : null,
    energy:
      memory && model.id !== "pythia-1b"
        ? figure(base.joules, base.joules * 0.95, base.joules * 1.06, "J/token", "RAPL package energy, idle 11.2 W subtracted.", firstRun + 3)
        : null,
    correct_per_wh:
      memory && model.id !== "pythia-1b"
        ? figure((base.mmlu * 240) / base.joules, null, null, "per Wh", "MMLU answers per watt-hour, idle subtracted.", firstRun)
        : null,
    references: REFERENCES[model.id] ?? [],
    badges: stage > 0 ? (BADGES[model.id] ?? []) : [],
    ttft: speed ? figure(64 / base.prefill, null, null, "s", "Over a prompt of 64 tokens.", firstRun + 2) : null,
    load: speed ? figure(base.weights / 2.1e9, null, null, "s", "From the file to ready, warm.", firstRun + 2) : null,
    peak_memory: memory
      ? figure(base.memory, null, null, "bytes", "Peak resident memory of the engine process.", firstRun + 3)
      : null,
    weights_memory: memory ? figure(base.weights, null, null, "bytes", "Weights in memory.", firstRun + 3) : null,
    gaps: memory && model.id === "pythia-1b" ? [{ task: "energy", pending: false, words: NO_ENERGY }] : [],
    notes: memory && model.id === "pythia-1b" ? ["speed: prefill was measured on 256 tokens, since the context is 2,048"] : [],
  };
}

export function fakeVerdicts(rows: ScorecardRow[]): string[] {
  if (rows.length === 1) {
    return [`${rows[0]?.name ?? ""}: no real difference from chance on MMLU (31.0 %, chance 25 %, p = 0.17).`];
  }
  return rows.slice(1).map((row) => {
    const first = rows[0];
    const clear = Math.abs((row.mmlu?.value ?? 0) - (first?.mmlu?.value ?? 0)) > 0.1;
    return clear
      ? `${row.name} is better than ${first?.name ?? ""} on MMLU (p = 0.003).`
      : `${row.name} and ${first?.name ?? ""}: no real difference on MMLU (p = 0.41).`;
  });
}

export function fakeScorecard(
  id: number,
  createdAt: number,
  size: ScorecardSize,
  models: ModelEntry[],
  stages: number,
): Scorecard {
  const rows = models.map((model, at) => fakeRow(model, size, Math.max(0, Math.min(STAGES.length, stages - at * STAGES.length)), id * 100 + at * STAGES.length));
  const complete = stages >= models.length * STAGES.length;
  return {
    id,
    created_at: createdAt,
    size,
    complete,
    rows,
    verdicts: complete ? fakeVerdicts(rows) : [],
    charts: fakeCharts(rows),
    hardware: "AMD EPYC 9B45, 2 cores, 25.3 GB, AVX512-VNNI, 2 threads, Debian 12",
    command: `billion scorecard --models ${models.map((model) => model.id).join(",")} --${size}`,
  };
}

const SUBJECTS = ["abstract_algebra", "computer_security", "world_religions", "us_foreign_policy"];

export function fakeQuestions(total: number, salt = 0): AnsweredQuestion[] {
  return Array.from({ length: total }, (_, at) => {
    const gold = "ABCD"[(at * 7) % 4] ?? "A";
    const pred = (at + (at % 5) * salt) % 3 === 0 ? gold : ("ABCD"[(at * 5 + 1) % 4] ?? "B");
    return {
      subject: SUBJECTS[Math.floor((at * SUBJECTS.length) / total)] ?? "abstract_algebra",
      index: at % 10,
      question: at % 17 === 16 ? null : `Question ${at + 1}: which of these four is the answer that the file names?`,
      choices: ["the first of them", "the second, which is a little longer", "the third", "none of the others"],
      ll: [0, 1, 2, 3].map((letter) => -1.4 - Math.abs(("ABCD".indexOf(pred) - letter) * 0.37)),
      pred,
      gold,
    };
  });
}

export function fakeRun(id: number, task: string, model: ModelEntry, createdAt: number, scorecard: number | null): RunDetails {
  const headlines: Record<string, string> = {
    mmlu: "31.0 % (22.8–40.6), 100 questions",
    humaneval: "5.0 % (0.9–23.6), 20 problems",
    energy: "0.11 J/token",
    perplexity: "18.4",
    speed: "prefill 812 tok/s, decode 152 tok/s",
    memory: "peak 231 MB, weights 98.3 MB",
  };
  return {
    summary: {
      id,
      task,
      model: model.id,
      quant: model.quant ?? "?",
      headline: headlines[task] ?? task,
      created_at: createdAt,
      scorecard,
    },
    facts: [
      { label: "Model hash", value: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53" },
      { label: "Quantization", value: model.quant ?? "?" },
      { label: "Task version", value: "mmlu-1" },
      { label: "Shots", value: "0" },
      { label: "Seed", value: "0" },
      { label: "Hardware", value: "AMD EPYC 9B45, 2 cores, AVX512-VNNI" },
      { label: "Billion", value: "0.1.0" },
    ],
    figures: [
      { label: "Accuracy", value: "31.0 % (22.8–40.6)" },
      { label: "Correct", value: "31 of 100" },
      { label: "Time", value: "24.1 s" },
    ],
    questions: task === "mmlu" ? fakeQuestions(100, model.name.length) : [],
    completions: task === "humaneval" ? fakeCompletions(25) : [],
    charts: task === "mmlu" ? [subjectChart(SUBJECTS, [model])] : [],
    command: `billion bench ${task} --model ${model.id}`,
  };
}

export function fakeAbout(): About {
  return {
    version: "0.1.0",
    cpu: "AMD EPYC 9B45",
    cores: 2,
    isa: "AVX512-VNNI",
    memory_bytes: 25_276_502_016,
    free_memory_bytes: 12_400_000_000,
    os: "Debian GNU/Linux 12 (bookworm)",
    data_dir: "/home/me/.local/share/billion",
    starter_dir: "/usr/lib/Billion/starter/pack",
    disk_bytes: 4_200_000,
  };
}

/** Exercises what a reply may hold. */
export const FAKE_REPLY = `Sure. A **loop** in Python goes over things one by one:

\`\`\`python
for planet in ["Mercury", "Venus", "Earth"]:
    print(f"Hello, {planet}!")
\`\`\`

1. \`for\` names the variable.
2. The list holds the *values*.

| word | meaning |
|---|---|
| \`for\` | repeat |
| \`in\` | over what |

See [the manual](https://docs.python.org/3/) for more.`;
