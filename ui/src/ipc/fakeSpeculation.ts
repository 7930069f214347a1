// What a measurement of a pair says in the fake program: texts with their drafts, and figures that follow from them. Never
// part of a production build, and no figure here was measured.
import type { Axis, ChartData, LabPrompt, PromptKind, PromptSpeculation, Repeats, SpeculationReport, SpeculationRequest, TextOrigin, TracedText } from "./index";

export const LAB_PROMPTS: LabPrompt[] = [
  { kind: "chat", name: "Chat", text: "Why is the sky blue, and why are sunsets red? Explain it to a curious twelve-year-old." },
  { kind: "code", name: "Code", text: "Write a Python function that returns the n-th Fibonacci number without recursion, with a docstring and three asserts." },
  { kind: "summary", name: "Summary", text: "Summarize the following text in three sentences.\n\nThe tide mill at Carrow stands on a narrow creek that fills twice a day. When the sea comes in, it pushes open the gates of the mill pond; when it goes out, the gates close by themselves and the water can leave only under the wheel." },
  { kind: "translation", name: "Translation", text: "Translate into French: \"The train to the coast leaves at eight o'clock.\"" },
  { kind: "story", name: "Story", text: "Write a short story about a lighthouse keeper who finds a letter in a bottle." },
];

/** A piece: how it came about, its text, what was rejected before it. */
type Piece = [TextOrigin, string, string?];

const TEXTS: Record<PromptKind, Piece[]> = {
  chat: [
    ["plain", "The"], ["accepted", " sky is blue because of"], ["bonus", " a"], ["accepted", " phenomenon called"], ["corrected", " Rayleigh", " scattering light"],
    ["accepted", " scattering. When sunlight enters"], ["corrected", " Earth", " the"], ["accepted", "'s atmosphere, it"], ["bonus", " meets"],
    ["accepted", " tiny molecules of gas.\n\n"], ["corrected", "Blue", "Red light"], ["accepted", " light is scattered more than red,"], ["corrected", " since", " because it"],
    ["accepted", " its waves are shorter."],
  ],
  code: [
    ["plain", "def"], ["accepted", " fibonacci(n):\n    "], ["bonus", "\"\"\""], ["accepted", "Return the n-th Fibonacci number.\"\"\"\n    a, b = 0, 1\n"],
    ["accepted", "    for _ in range(n):\n        a, b = b, a + b\n"], ["corrected", "    return", "\n    print"], ["accepted", " a\n\n\nassert fibonacci(0) == 0\n"],
    ["bonus", "assert"], ["accepted", " fibonacci(1) == 1\nassert fibonacci(10) =="], ["corrected", " 55", " 89"],
  ],
  summary: [
    ["plain", "The"], ["accepted", " tide mill at Carrow stands on a narrow creek that fills twice a day."], ["corrected", " Its", " When the sea"], ["accepted", " gates close by themselves"],
    ["bonus", " when"], ["accepted", " the sea goes out, and the water can leave only under the wheel."],
  ],
  translation: [
    ["plain", "Le"], ["accepted", " train"], ["corrected", " pour", " à la"], ["accepted", " la côte"], ["corrected", " part", " quitte"], ["accepted", " à"], ["corrected", " huit", " 8"], ["accepted", " heures."],
  ],
  story: [
    ["plain", "Old"], ["corrected", " Tomas", " man"], ["accepted", " had kept the"], ["corrected", " lamp", " lighthouse for"], ["accepted", " at Skerry Point for"], ["corrected", " forty", " thirty"],
    ["accepted", " years when the tide"], ["corrected", " brought", " washed up"], ["accepted", " him a bottle <b>with"], ["bonus", " a"], ["accepted", " letter."],
  ],
  own: [["plain", "Once"], ["accepted", " upon a time"], ["corrected", ", in", ", there"], ["accepted", " a land far away."]],
};

/** Prompts whose drafts are seldom right. */
const POOR: TracedText[] = [
  traced(["corrected", "It", "The"]), traced(["corrected", " begins", " is a"]), traced(["accepted", " with"]), traced(["corrected", " light", " the sun"]),
  traced(["plain", " from the sun, which holds every colour."]),
];

function traced([origin, text, rejected = ""]: Piece): TracedText {
  return { text, origin, rejected, tokens: tokensOf(text) };
}

function tokensOf(text: string): number {
  return text.match(/\s*[\w'’]+|[^\w\s]+|\s+/g)?.length ?? 0;
}

function repeats(median: number, count: number): Repeats {
  const runs = Array.from({ length: count }, (_, at) => median * (1 + (((at * 7) % 5) - 2) * 0.015));
  const sorted = [...runs].sort((a, b) => a - b);
  return { median: sorted[Math.floor(count / 2)] ?? median, min: sorted[0] ?? median, max: sorted.at(-1) ?? median, runs };
}

/** A stand-in of the right shape for a hash of these tokens. */
function hash(tokens: number[]): string {
  let state = 2166136261;
  const words = Array.from({ length: 8 }, (_, word) => {
    for (const token of [word, ...tokens]) state = Math.imul(state ^ token, 16777619) >>> 0;
    return state.toString(16).padStart(8, "0");
  });
  return words.join("");
}

const STEP_S = 0.041;
const DRAFT_S = 0.0035;

function onePrompt(kind: PromptKind, prompt: string, request: SpeculationRequest, how: { differs: boolean; pays: boolean }): PromptSpeculation {
  const pieces = how.pays ? TEXTS[kind].map(traced) : POOR;
  const text = pieces.map((piece) => piece.text).join("");
  const count = pieces.reduce((sum, piece) => sum + piece.tokens, 0);
  const of = (origin: TextOrigin): number => pieces.filter((piece) => piece.origin === origin).reduce((sum, piece) => sum + piece.tokens, 0);
  const accepted = of("accepted");
  const drafted = accepted + pieces.reduce((sum, piece) => sum + tokensOf(piece.rejected), 0);
  const passes = pieces.filter((piece) => piece.origin === "corrected" || piece.origin === "bonus").length + of("plain");
  const perStep = count / Math.max(1, passes);
  const predicted = how.pays ? (perStep * STEP_S) / (STEP_S * 1.3 + (drafted / passes) * DRAFT_S) : 0.94;
  const found = repeats(how.pays ? predicted * 0.97 : 0.96, request.repeat);
  const tokens = Array.from({ length: count }, (_, at) => 100 + ((at * 37) % 900));
  const greedy = request.temperature === 0;
  const difference = greedy && how.differs && kind === "code" ? 12 : null;
  const plain = difference === null && greedy ? tokens : tokens.map((token, at) => (at < (difference ?? 0) ? token : token + 1));
  return {
    kind,
    prompt,
    prompt_tokens: tokensOf(prompt) + 12,
    text,
    tokens,
    finish_reason: "stop",
    speedup: found.median,
    speedup_repeats: found,
    baseline_tokens_per_s: 1 / STEP_S,
    speculative_tokens_per_s: found.median / STEP_S,
    drafted,
    accepted,
    passes,
    plain_passes: of("plain"),
    acceptance_rate: drafted === 0 ? null : accepted / drafted,
    alpha: drafted === 0 ? null : Math.min(0.97, accepted / drafted + 0.06),
    tokens_per_step: perStep,
    predicted_speedup: drafted === 0 ? null : predicted,
    costs: { target_pass_s: [1, 1.1, 1.2, 1.3, 1.4].map((cost) => cost * STEP_S), draft_step_s: request.drafter.kind === "lookup" ? 0 : DRAFT_S, draft_prompt_s: 0.02 },
    switched_off: !how.pays,
    identical: greedy ? difference === null : null,
    first_difference: difference,
    baseline_sha256: hash(plain),
    speculative_sha256: hash(tokens),
    pieces,
  };
}

export function fakeReport(run: number, request: SpeculationRequest, how: { differs: boolean; pays: boolean }): SpeculationReport {
  const asked = [
    ...LAB_PROMPTS.filter((prompt) => request.kinds.includes(prompt.kind)),
    ...request.prompts.map((text): LabPrompt => ({ kind: "own", name: "Own prompt", text })),
  ];
  const by_prompt = asked.map(({ kind, text }) => onePrompt(kind, text, request, how));
  const sum = (pick: (prompt: PromptSpeculation) => number): number => by_prompt.reduce((total, prompt) => total + pick(prompt), 0);
  const tokens = by_prompt.flatMap((prompt) => prompt.tokens);
  const found = repeats(tokens.length / sum((prompt) => prompt.tokens.length / prompt.speedup), request.repeat);
  const identical = request.temperature === 0 ? by_prompt.every((prompt) => prompt.identical === true) : null;
  const acceptance = sum((prompt) => prompt.accepted) / Math.max(1, sum((prompt) => prompt.drafted));
  const predicted = tokens.length / sum((prompt) => prompt.tokens.length / (prompt.predicted_speedup ?? 1));
  const steps = [1, 2, 3, 4, 5, 6, 8, 12];
  return {
    run,
    target: request.target,
    draft: request.drafter.kind === "model" ? request.drafter.model : null,
    k: request.k,
    speedup: found.median,
    speedup_repeats: found,
    baseline_tokens_per_s: 1 / STEP_S,
    speculative_tokens_per_s: found.median / STEP_S,
    acceptance_rate: acceptance,
    alpha: Math.min(0.97, acceptance + 0.06),
    tokens_per_step: tokens.length / sum((prompt) => prompt.passes),
    predicted_speedup: predicted,
    identical,
    tokens,
    baseline_sha256: identical === true ? hash(tokens) : hash([...tokens, 1]),
    speculative_sha256: hash(tokens),
    by_prompt,
    by_k: request.sweep
      ? steps.map((k) => {
          const speedup = how.pays ? found.median * (1 - ((k - 4) / 16) ** 2) : 0.95 - k * 0.02;
          return { k, speedup, predicted_speedup: speedup * 1.03, acceptance_rate: acceptance, tokens_per_step: 1 + acceptance * k * 0.6 };
        })
      : [],
    advice: how.pays
      ? { on: true, k: 4, words: `${found.median.toFixed(2)} times as fast as plain decoding over ${by_prompt.length} prompts, and 4 drafted tokens are the best of those tried` }
      : { on: false, k: "auto", words: `${found.median.toFixed(2)} times plain decoding, as only ${Math.round(acceptance * 100)} % of drafts are right` },
    threads: 2,
    isa: "AVX512-VNNI",
    device: "cpu",
    temperature: request.temperature,
    max_tokens: request.max_tokens,
    seconds: 93.4,
    other_cores_busy: 0.1,
    notes: request.repeat < 2 ? ["one repeat only: nothing tells how sure the figures are"] : [],
  };
}

function axis(label: string, unit: string, change: Partial<Axis> = {}): Axis {
  return { label, unit, categories: [], min: 0, log: false, reference: null, ...change };
}

/** Measured against predicted, by prompt and by number of drafted tokens; acceptance by prompt. */
export function labCharts(report: SpeculationReport): ChartData[] {
  const names = report.by_prompt.map(({ kind }) => LAB_PROMPTS.find((prompt) => prompt.kind === kind)?.name ?? "Own prompt");
  const speedup = axis("Speed-up", "×", { reference: { value: 1, label: "plain decoding" } });
  const prompts = axis("Prompt", "", { categories: names, min: null });
  const model = report.target;
  const at = (x: number, y: number, lo: number | null = null, hi: number | null = null) => ({ x, y, lo, hi, value: null });
  const charts: ChartData[] = [
    {
      title: "Speed-up by kind of prompt",
      form: "dots",
      x: prompts,
      y: speedup,
      value: null,
      series: [
        { model, name: "measured", points: report.by_prompt.map(({ speedup_repeats: r }, x) => at(x, r.median, r.min, r.max)), marks: [] },
        { model, name: "predicted", points: report.by_prompt.flatMap(({ predicted_speedup: p }, x) => (p === null ? [] : [at(x, p)])), marks: [], dashed: true },
      ],
    },
    {
      title: "Acceptance by kind of prompt",
      form: "dots",
      x: prompts,
      y: axis("Accepted drafts", "%"),
      value: null,
      series: [{ model, name: "accepted", points: report.by_prompt.flatMap(({ acceptance_rate: a }, x) => (a === null ? [] : [at(x, a * 100)])), marks: [] }],
    },
  ];
  if (report.by_k.length === 0) return charts;
  const byK: ChartData = {
    title: "Speed-up by number of drafted tokens",
    form: "line",
    x: axis("Drafted tokens (k)", "", { min: null }),
    y: speedup,
    value: null,
    series: [
      { model, name: "measured", points: report.by_k.map((one) => at(one.k, one.speedup)), marks: [] },
      { model, name: "predicted", points: report.by_k.flatMap((one) => (one.predicted_speedup === null ? [] : [at(one.k, one.predicted_speedup)])), marks: [], dashed: true },
    ],
  };
  return [...charts, byK];
}
