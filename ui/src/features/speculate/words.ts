// How drafts and what came of them read.
import { count, percent } from "../../format";
import type { DraftLength, PromptKind, PromptSpeculation, Repeats, SpeculationReport, TextOrigin } from "../../ipc";

export const KINDS: Record<PromptKind, string> = {
  chat: "Chat",
  code: "Code",
  summary: "Summary",
  translation: "Translation",
  story: "Story",
  own: "Own prompt",
};

/** How each origin of a text is called: short, and in a sentence. */
export const ORIGINS: Record<TextOrigin, { name: string; words: string }> = {
  accepted: { name: "drafted and accepted", words: "The draft wrote it, and the target would have written the same." },
  corrected: { name: "the target's correction", words: "The target wrote it in place of a rejected draft." },
  bonus: { name: "the target's bonus", words: "The target wrote it in the same pass after a draft that was kept whole." },
  plain: { name: "the target's own", words: "Nothing was drafted here." },
};

/** "auto", or "4 at a time". */
export function lengthWords(k: DraftLength): string {
  return typeof k === "number" ? `${k} at a time` : "as many as pay";
}

/** "1.71–1.94 over 3 repeats". */
export function rangeWords({ min, max, runs }: Repeats): string {
  return runs.length < 2 ? "one repeat" : `${min.toFixed(2)}–${max.toFixed(2)} over ${count(runs.length)} repeats`;
}

/** The names of the prompts of a report; own ones are counted where there are several. */
export function promptNames(prompts: PromptSpeculation[]): string[] {
  const own = prompts.filter((prompt) => prompt.kind === "own").length;
  let at = 0;
  return prompts.map(({ kind }) => (kind === "own" && own > 1 ? `${KINDS.own} ${++at}` : KINDS[kind]));
}

export function share(value: number | null): string {
  return value === null ? "–" : percent(value);
}

/** A probability, as papers write it: "0.81". */
export function chance(value: number | null): string {
  return value === null ? "–" : value.toFixed(2);
}

/** What the two texts prove; of drawn text, what holds all the same. */
export function proofWords(report: SpeculationReport): { sign: "same" | "differs" | "drawn"; words: string } {
  const all = count(report.tokens.length);
  if (report.identical === true) return { sign: "same", words: `Greedy output is identical: ${all} of ${all} tokens.` };
  if (report.identical === null) {
    return {
      sign: "drawn",
      words: `The text was drawn at temperature ${report.temperature}: speculation preserves the target's distribution, but the tokens are drawn anew each time, so two texts cannot be compared token by token.`,
    };
  }
  const names = promptNames(report.by_prompt);
  const differing = report.by_prompt.flatMap((prompt, at) =>
    prompt.identical === false
      ? [`${names[at] ?? ""} from token ${count((prompt.first_difference ?? 0) + 1)} of ${count(prompt.tokens.length)} on`]
      : [],
  );
  return { sign: "differs", words: `Greedy output differs: ${differing.length === 0 ? "the hashes are not the same" : differing.join("; ")}.` };
}

/** A text in one piece that is seen: a line break or a lone space would not be. */
export function visible(text: string): string {
  return text.trim() === "" ? text.replaceAll(" ", "␣").replaceAll("\n", "⏎") : text.replaceAll("\n", "⏎");
}
