// What happens in a chat, in words.
import type { ModelEntry, Reply, ReplySpeculation } from "../../ipc";
import { capital, count, duration, significant } from "../../format";
import type { Stage } from "./thread.svelte";

/** Why a reply ended. */
export function finishWords(reply: Reply): string {
  switch (reply.finish_reason) {
    case "stop":
      return "finished";
    case "length":
      return "stopped at the token limit";
    case "cancelled":
      return "stopped by you";
    case "context":
      return "stopped: the model's context is full";
    default:
      return reply.error === null ? reply.finish_reason : "broke off";
  }
}

/** Speed and cost of a reply, as parts of one line. */
export function statistics(reply: Reply): string[] {
  const parts: string[] = [];
  if (reply.tokens_per_s !== null) parts.push(`${significant(reply.tokens_per_s)}\u202ftok/s`);
  if (reply.ttft_s !== null) parts.push(`first token ${duration(reply.ttft_s)}`);
  parts.push(`${count(reply.tokens)} ${reply.tokens === 1 ? "token" : "tokens"}`);
  if (reply.prompt_tokens > 0) parts.push(`prompt ${count(reply.prompt_tokens)}`);
  parts.push(finishWords(reply));
  return parts;
}

/** How drafts fare: "accepted 71 % of drafts, 1.8×", that they do not pay, or why there are none. */
export function speculationWords(found: ReplySpeculation): string {
  if (found.problem !== null) return `without drafts: ${found.problem}`;
  const parts: string[] = [];
  if (found.drafted === 0) parts.push("nothing drafted yet");
  else parts.push(`accepted ${Math.round((100 * found.accepted) / found.drafted)}\u202f% of drafts`);
  if (found.speedup !== null) parts.push(`${found.speedup.toFixed(1)}×`);
  if (found.switched_off) parts.push("does not pay here, switched itself off");
  return parts.join(", ");
}

/** The same figures in full, for the tip. */
export function speculationDetails(found: ReplySpeculation): string {
  return `Speculative decoding with ${found.draft}: ${count(found.accepted)} of ${count(found.drafted)} drafted tokens accepted`;
}

/** What a model does now. */
export function stageWords(stage: Stage, tokens: number): string {
  switch (stage.kind) {
    case "waiting":
      return stage.reason === "" ? "Waiting" : capital(stage.reason);
    case "loading":
      return "Loading the model";
    case "reading":
      return `Reading the prompt: ${count(stage.done)} of ${count(stage.total)} tokens`;
    case "writing":
      return `Writing: ${count(tokens)} ${tokens === 1 ? "token" : "tokens"}`;
    case "finished":
      return "Finished";
  }
}

/** The stage alone, for those who listen. */
export function stageName(stage: Stage): string {
  return {
    waiting: "waiting",
    loading: "loading",
    reading: "reading the prompt",
    writing: "writing",
    finished: "finished",
  }[stage.kind];
}

/**
 * Why these models get a box for text to continue; null when each of them chats. What is sent later is added to the end
 * of the text so far: a base model reads one growing text.
 */
export function completionNote(models: (ModelEntry | undefined)[], begun: boolean): string | null {
  const base = models.filter((model): model is ModelEntry => model !== undefined && !model.chat);
  if (base.length === 0) return null;
  const names = base.map((model) => model.name).join(" and ");
  const why =
    base.length === 1
      ? `${names} is a base model without a chat template: it continues your text instead of answering it.`
      : `${names} are base models without a chat template: they continue your text instead of answering it.`;
  return begun ? `${why} What you send is added to the end of the text so far.` : why;
}
