// Billion's catalogue as the fake program tells it, and what the hub would say. No figure here was measured; sizes are those of
// the real models, so that cards look as they will. Never part of a production build.
import type { Advice, Catalogued, FileChoice, Fit, FoundModel, ModelEntry, QuantChoice, RunsHere, TimeLapse, TimeLapsePoint, TimeLapseRequest } from "./index";

interface Line {
  id: string;
  name: string;
  repository: string;
  params: number;
  billions: number;
  context: number;
  license: string;
  publisher: string;
  architecture: string;
  good: string;
  gated?: boolean;
  contender?: boolean;
  article?: boolean;
  drafts?: string[];
  chat?: boolean;
}

const TINY = { context: 2048, license: "Apache-2.0", publisher: "TinyLlama project", architecture: "llama", contender: true, drafts: ["llama-2-7b"], billions: 3000 };
const LLAMA = { context: 131_072, license: "Llama 3.2 Community License", publisher: "Meta", architecture: "llama", gated: true, billions: 9000 };
const STABLE = { context: 4096, license: "Stability AI Community License", publisher: "Stability AI", architecture: "stablelm", billions: 2000 };
const PYTHIA = { context: 2048, license: "Apache-2.0", publisher: "EleutherAI", architecture: "gptneox", billions: 300 };
const SMOL = { context: 8192, license: "Apache-2.0", publisher: "Hugging Face", architecture: "llama", chat: true };

const LINES: Line[] = [
  { ...SMOL, id: "starter", name: "SmolLM2 135M Instruct", repository: "HuggingFaceTB/SmolLM2-135M-Instruct", params: 134_515_008, billions: 2000, contender: true, drafts: ["smollm2-360m", "smollm2-1.7b"], good: "Ships with Billion: answers at once, offline." },
  { ...TINY, id: "tinyllama-1.1b-chat", name: "TinyLlama 1.1B Chat v1.0", repository: "TinyLlama/TinyLlama-1.1B-Chat-v1.0", params: 1_100_048_384, article: true, chat: true, good: "A small Llama 2 that chats; drafts for Llama 2 7B." },
  { ...TINY, id: "tinyllama-1.1b", name: "TinyLlama 1.1B", repository: "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T", params: 1_100_048_384, good: "A base model trained on three trillion tokens; a good start for fine-tuning." },
  { ...LLAMA, id: "llama-3.2-1b", name: "Llama 3.2 1B", repository: "meta-llama/Llama-3.2-1B", params: 1_235_814_400, contender: true, article: true, drafts: ["llama-3.1-8b", "llama-3.2-3b"], good: "A base model of the Llama 3 family; drafts for Llama 3.1 8B." },
  { ...LLAMA, id: "llama-3.2-1b-instruct", name: "Llama 3.2 1B Instruct", repository: "meta-llama/Llama-3.2-1B-Instruct", params: 1_235_814_400, contender: true, chat: true, drafts: ["llama-3.1-8b", "llama-3.2-3b"], good: "Follows instructions and summarises; the strongest here on MMLU." },
  { ...STABLE, id: "stablelm-2-1.6b", name: "StableLM 2 1.6B", repository: "stabilityai/stablelm-2-1_6b", params: 1_644_515_328, contender: true, article: true, drafts: ["stablelm-2-12b"], good: "A multilingual base model." },
  { ...STABLE, id: "stablelm-2-zephyr-1.6b", name: "StableLM 2 Zephyr 1.6B", repository: "stabilityai/stablelm-2-zephyr-1_6b", params: 1_644_515_328, contender: true, chat: true, drafts: ["stablelm-2-12b"], good: "Follows instructions." },
  { ...PYTHIA, id: "pythia-1b", name: "Pythia 1B", repository: "EleutherAI/pythia-1b", params: 1_011_781_632, contender: true, article: true, drafts: ["pythia-2.8b", "pythia-6.9b"], good: "Made for research: 154 checkpoints of its training are public." },
  { ...PYTHIA, id: "pythia-70m", name: "Pythia 70M", repository: "EleutherAI/pythia-70m", params: 70_426_624, drafts: ["pythia-1b", "pythia-2.8b", "pythia-6.9b"], good: "The smallest of its family; drafts for the larger ones." },
  { ...PYTHIA, id: "pythia-6.9b", name: "Pythia 6.9B", repository: "EleutherAI/pythia-6.9b", params: 6_857_302_016, good: "The largest target for Pythia drafts." },
  { ...SMOL, id: "smollm2-1.7b", name: "SmolLM2 1.7B Instruct", repository: "HuggingFaceTB/SmolLM2-1.7B-Instruct", params: 1_711_376_384, billions: 11_000, good: "Chats well for its size; the starter model drafts for it." },
  { ...LLAMA, id: "llama-2-7b", name: "Llama 2 7B", repository: "meta-llama/Llama-2-7b-hf", params: 6_738_415_616, billions: 2000, context: 4096, license: "Llama 2 Community License", good: "A target that TinyLlama drafts for." },
  { ...LLAMA, id: "llama-3.1-8b", name: "Llama 3.1 8B", repository: "meta-llama/Llama-3.1-8B", params: 8_030_261_248, billions: 15_000, license: "Llama 3.1 Community License", good: "A target that Llama 3.2 1B drafts for." },
  { ...LLAMA, id: "llama-3.2-3b", name: "Llama 3.2 3B", repository: "meta-llama/Llama-3.2-3B", params: 3_212_749_824, good: "A middle-sized target that Llama 3.2 1B drafts for." },
  { ...STABLE, id: "stablelm-2-12b", name: "StableLM 2 12B", repository: "stabilityai/stablelm-2-12b", params: 12_143_605_760, good: "A target that StableLM 2 1.6B drafts for." },
];

const gb = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;

/** Held against 12.4 GB, with invented allowances. */
export function fakeFit(weights: number, context = 2048, free = 12.4e9): Fit {
  const cache = context * 45_056;
  const work = 134e6 + weights * 0.05;
  const need = weights + cache + work;
  const level = need <= free * 0.7 ? "well" : need <= free ? "tight" : "too_big";
  const figures = `needs ${gb(need)}, ${gb(free)} free`;
  return {
    level,
    words: level === "well" ? "runs well" : `${level === "tight" ? "tight" : "too big"}: ${figures}`,
    sum: `${gb(weights)} weights + ${gb(cache)} cache of ${context} tokens + ${gb(work)} to work in = ${gb(need)}`,
  };
}

export function known(id: string): Catalogued | null {
  const line = LINES.find((other) => other.id === id);
  if (line === undefined) return null;
  return {
    repository: line.repository,
    page: `https://huggingface.co/${line.repository}`,
    download_bytes: line.params * 2,
    estimated: true,
    gated: line.gated ?? false,
    contender: line.contender ?? false,
    article: line.article ?? false,
    drafts_for: line.drafts ?? [],
    training_tokens: line.billions * 1e9,
    tokens_per_param: (line.billions * 1e9) / line.params,
    checkpoints: id.startsWith("pythia"),
  };
}

/** What is known and not on this machine. */
export function fakeCatalogue(here: string[]): ModelEntry[] {
  return LINES.filter((line) => !here.includes(line.id)).map((line) => ({
    id: line.id,
    name: line.name,
    params: line.params,
    architecture: line.architecture,
    quant: null,
    bytes: line.params * 2,
    license: line.license,
    publisher: line.publisher,
    context_len: line.context,
    installed: false,
    source: "catalogue",
    fit: fakeFit(line.params * 2),
    good_at: line.good,
    chat: line.chat ?? false,
    path: null,
    problem: null,
    known: known(line.id),
  }));
}

export function fakeRunsHere(): RunsHere {
  const columns = [
    { name: "CPU, INT4", budget_bytes: 12.4e9, here: true, note: null },
    { name: "4 GB VRAM, INT4", budget_bytes: 3.6e9, here: false, note: "Billion was not tested on this device." },
    { name: "8 GB VRAM, FP16", budget_bytes: 7.4e9, here: false, note: "Billion was not tested on this device." },
    { name: "Apple silicon, 16 GB", budget_bytes: 11e9, here: false, note: "Billion was not tested on this device." },
  ];
  return {
    columns,
    rows: LINES.filter((line) => line.contender).map((line) => ({
      model: line.id,
      name: line.name,
      cells: columns.map((column) => fakeFit(line.params * (column.name.includes("INT4") ? 0.57 : 2), 2048, column.budget_bytes)),
    })),
    basis: "Weights in the format of the column, a cache of 2,048 tokens, and room to work in. Memory of this machine as it is free now; of the others, what the system leaves to a model.",
  };
}

export function fakeAdvice(): Advice[] {
  return [
    { want: "Starting out", answer: "Comes with Billion and answers at once, on any machine.", model: "starter", name: "SmolLM2 135M Instruct", installed: true, rests_on: "MMLU 31.0 % (22.8–40.6), 152 tokens/s on this machine." },
    { want: "The Meta ecosystem", answer: "Tools, adapters and larger sisters that it drafts for. Its licence must be accepted first.", model: "llama-3.2-1b-instruct", name: "Llama 3.2 1B Instruct", installed: false, rests_on: null },
    { want: "Several languages", answer: "Trained on English, Spanish, German, Italian, French, Portuguese and Dutch.", model: "stablelm-2-1.6b", name: "StableLM 2 1.6B", installed: false, rests_on: null },
    { want: "Reproducible research", answer: "Data, code and 154 checkpoints are public.", model: "pythia-1b", name: "Pythia 1B", installed: true, rests_on: "MMLU 25.0 % (24.3–25.7) on this machine." },
    { want: "Most per byte", answer: "Trained on 2,700 tokens a parameter; at Q4 it takes 0.6 GB.", model: "tinyllama-1.1b-chat", name: "TinyLlama 1.1B Chat", installed: true, rests_on: null },
  ];
}

const choice = (id: string, name: string, bytes: number): FileChoice => ({ id, name, bytes, installed: false, fit: fakeFit(bytes) });

/** Found repositories; their choices are told only when one is looked up. */
export const FOUND: FoundModel[] = [
  {
    repository: "TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF",
    page: "https://huggingface.co/TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF",
    revision: null,
    architecture: "llama",
    problem: null,
    license: "Apache-2.0",
    gated: false,
    downloads: 183_204,
    choices: [
      choice("hf:TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF/tinyllama-1.1b-chat-v1.0.Q4_0.gguf", "tinyllama-1.1b-chat-v1.0.Q4_0.gguf", 637_699_456),
      choice("hf:TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF/tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf", "tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf", 668_788_096),
      choice("hf:TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF/tinyllama-1.1b-chat-v1.0.Q8_0.gguf", "tinyllama-1.1b-chat-v1.0.Q8_0.gguf", 1_170_781_568),
    ],
  },
  {
    repository: "TinyLlama/TinyLlama-1.1B-step-50K-105b",
    page: "https://huggingface.co/TinyLlama/TinyLlama-1.1B-step-50K-105b",
    revision: null,
    architecture: "llama",
    problem: null,
    license: "Apache-2.0",
    gated: false,
    downloads: 4120,
    choices: [choice("hf:TinyLlama/TinyLlama-1.1B-step-50K-105b", "safetensors, F32", 4_400_216_536)],
  },
  {
    repository: "state-spaces/tinymamba-1b",
    page: "https://huggingface.co/state-spaces/tinymamba-1b",
    revision: null,
    architecture: "mamba",
    problem: "Billion runs llama, stablelm and gpt_neox models; this one is a mamba.",
    license: "Apache-2.0",
    gated: false,
    downloads: 901,
    choices: [],
  },
];

export function fakeQuants(model: ModelEntry): QuantChoice[] {
  const bits: [string, string, number][] = [
    ["q4_0", "Q4_0: 4.5 bits a weight, the fastest here", 4.5],
    ["q4_k_m", "Q4_K_M: 4.9 bits a weight, the usual choice", 4.9],
    ["q5_k_m", "Q5_K_M: 5.7 bits a weight", 5.7],
    ["q6_k", "Q6_K: 6.6 bits a weight", 6.6],
    ["q8_0", "Q8_0: 8.5 bits a weight, hardly any loss", 8.5],
    ["f16", "F16: 16 bits a weight", 16],
  ];
  return bits.map(([quant, words, each]) => {
    const bytes = ((model.params ?? 1e9) * each) / 8;
    return { quant, words, bytes, fit: fakeFit(bytes) };
  });
}

export const CHECKPOINTS = [0, ...Array.from({ length: 10 }, (_, power) => 2 ** power), ...Array.from({ length: 143 }, (_, at) => (at + 1) * 1000)];

const LEARNING = ["the the of the , the the", "the city of the city of the", "the capital of the country, and the", "a city in the south of France, and it is", "Paris, which is also the largest city of the country"];

export function fakeLapse(id: number, request: TimeLapseRequest, createdAt: number, done: number): TimeLapse {
  const steps = [...request.steps].sort((a, b) => a - b);
  const points = steps.slice(0, done).map((step): TimeLapsePoint => {
    const grown = Math.log10(step + 1) / Math.log10(143_001);
    const mmlu = 0.224 + 0.035 * grown;
    const perplexity = 18 + 50_000 * Math.exp(-9 * grown);
    return {
      step,
      training_tokens: step * 2_097_152,
      mmlu: { value: mmlu, lo: mmlu - 0.08, hi: mmlu + 0.09, unit: "accuracy", how: "0-shot, 100 questions; 95 % Wilson interval.", run: id * 1000 + step },
      perplexity: { value: perplexity, lo: null, hi: null, unit: "", how: "Billion's own text, 2,048 tokens a window.", run: id * 1000 + step },
      continuation: LEARNING[Math.min(LEARNING.length - 1, Math.floor(grown * LEARNING.length))] ?? null,
      problem: step === 512 ? "the checkpoint holds only .bin files that this version cannot read" : null,
    };
  });
  const chart = (title: string, label: string, unit: string, pick: (point: TimeLapsePoint) => number, log: boolean): TimeLapse["charts"][number] => ({
    title,
    form: "line",
    x: { label: "Training step", unit: "", categories: [], min: null, log: true, reference: { value: 0.5, label: "step 0: untrained" } },
    y: { label, unit, categories: [], min: log ? null : 0, log, reference: unit === "%" ? { value: 25, label: "guessing" } : null },
    value: null,
    series: [{ model: request.model, name: "Pythia 1B", marks: [], points: points.map((point) => ({ x: Math.max(0.5, point.step), y: pick(point), lo: unit === "%" ? (point.mmlu?.lo ?? 0) * 100 : null, hi: unit === "%" ? (point.mmlu?.hi ?? 0) * 100 : null, value: null })) }],
  });
  return {
    head: { id, model: request.model, steps: steps.length, done: points.length, created_at: createdAt },
    prompt: request.prompt,
    points,
    charts:
      points.length === 0
        ? []
        : [
            chart("MMLU accuracy over training", "MMLU accuracy", "%", (point) => (point.mmlu?.value ?? 0) * 100, false),
            chart("Perplexity over training", "Perplexity", "", (point) => point.perplexity?.value ?? 0, true),
          ],
  };
}
