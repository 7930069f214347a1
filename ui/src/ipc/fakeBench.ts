// Invented completions, comparisons and sources of questions for component tests and for the browser. Never part of a
// production build, and no figure here was measured.
import type { JudgedCompletion, MmluSource, MmluSubject, RunComparison, RunDetails } from "./index";

export const STARTER_MMLU: MmluSource = {
  origin: "starter",
  words: "14,042 questions, no solved examples",
  shots: 0,
  note: "the starter pack has no solved examples",
  fix: "drop the official MMLU folder or archive here, choose it, or fetch it (cais/mmlu)",
  path: "/usr/lib/Billion/starter/pack/mmlu",
};

export const HUB_MMLU: MmluSource = {
  origin: "hub",
  words: "14,042 questions, 285 solved examples",
  shots: 5,
  note: null,
  fix: null,
  path: "/home/me/.cache/huggingface/hub/datasets--cais--mmlu",
};

export function ownMmlu(path: string): MmluSource {
  return { origin: "own", words: "14,042 questions, 281 solved examples", shots: 5, note: "3 subjects have 3 or 4 solved examples instead of 5", fix: null, path };
}

export const SUBJECTS: MmluSubject[] = [
  { subject: "abstract_algebra", group: "stem" },
  { subject: "computer_security", group: "stem" },
  { subject: "machine_learning", group: "stem" },
  { subject: "logical_fallacies", group: "humanities" },
  { subject: "professional_law", group: "humanities" },
  { subject: "world_religions", group: "humanities" },
  { subject: "us_foreign_policy", group: "social_sciences" },
  { subject: "high_school_geography", group: "social_sciences" },
  { subject: "global_facts", group: "other" },
  { subject: "nutrition", group: "other" },
];

const VERDICTS: { verdict: string; words: string; detail: string }[] = [
  { verdict: "passed", words: "passed", detail: "" },
  { verdict: "wrong_answer", words: "wrong answer", detail: "candidate([1.0, 2.0], 0.3) gave True" },
  { verdict: "exception", words: "exception", detail: "IndexError: list index out of range" },
  { verdict: "syntax_error", words: "syntax error", detail: "SyntaxError: invalid syntax (line 3)" },
  { verdict: "timeout", words: "took longer than 10 s", detail: "" },
];

export function fakeCompletions(total: number): JudgedCompletion[] {
  return Array.from({ length: total }, (_, at) => {
    const { verdict, words, detail } = VERDICTS[at % 7 === 0 ? 0 : 1 + (at % (VERDICTS.length - 1))] ?? { verdict: "passed", words: "passed", detail: "" };
    return {
      task_id: `HumanEval/${at}`,
      sample: 0,
      prompt: at === 3 ? null : `def close_${at}(numbers: list[float], threshold: float) -> bool:\n    """Whether any two numbers are closer than the threshold.\n    >>> close_${at}([1.0, 2.0], 0.5)\n    False\n    """\n`,
      completion: "    for a in numbers:\n        for b in numbers:\n            if a < b <script>alert(1)</script>:\n                return True\n    return False\n",
      passed: verdict === "passed",
      verdict,
      words,
      detail,
      seconds: 0.03 + at * 0.01,
      tokens: 48 + at,
    };
  });
}

export function fakeComparison(a: RunDetails, b: RunDetails): RunComparison {
  const right = (run: RunDetails, at: number): boolean =>
    run.questions.length > 0 ? run.questions[at]?.pred === run.questions[at]?.gold : run.completions[at]?.passed === true;
  const shared = Math.min(Math.max(a.questions.length, a.completions.length), Math.max(b.questions.length, b.completions.length));
  const counts = { both_right: 0, only_a: 0, only_b: 0, both_wrong: 0 };
  const flips: RunComparison["flips"] = [];
  for (let at = 0; at < shared; at += 1) {
    const [first, second] = [right(a, at), right(b, at)];
    counts[first ? (second ? "both_right" : "only_a") : second ? "only_b" : "both_wrong"] += 1;
    if (first === second) continue;
    const question = a.questions[at];
    flips.push({
      name: question === undefined ? `HumanEval/${at}` : `${question.subject}, question ${question.index}`,
      question: question?.question ?? a.completions[at]?.prompt ?? null,
      gold: question?.gold ?? "passes",
      a: question?.pred ?? a.completions[at]?.words ?? "",
      b: b.questions[at]?.pred ?? b.completions[at]?.words ?? "",
      a_right: first,
    });
  }
  const other = a.summary.model !== b.summary.model;
  return {
    a: a.summary,
    b: b.summary,
    rows: [
      { label: "Accuracy", a: "31.0 %", b: "27.0 %", change: "4.0 points lower" },
      { label: "Model", a: a.summary.model, b: b.summary.model, change: null },
      { label: "Quantization", a: a.summary.quant, b: b.summary.quant, change: null },
      { label: "Time", a: "24.1 s", b: "1 min 12 s", change: "3.0 times as long" },
    ],
    verdict: shared > 0 ? "no real difference between the two (p = 0.41)" : null,
    p_value: shared > 0 ? 0.41 : null,
    shared,
    ...counts,
    flips,
    notes: other ? [] : ["both runs are of the same model"],
  };
}
