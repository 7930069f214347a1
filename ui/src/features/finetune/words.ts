// How datasets and trainings read: layouts, parts of a row, states.
import type { ColumnMapping, FileKind, JobState, RowLayout } from "../../ipc";

export const LAYOUTS: Record<RowLayout, string> = {
  alpaca: "Instruction, input, output (Alpaca)",
  share_gpt: "Conversations, from and value (ShareGPT)",
  messages: "Messages, role and content (ChatML)",
  prompt_completion: "Prompt and completion",
  question_answer: "Question and answer",
  text: "Plain text",
};

export const KINDS: Record<FileKind, string> = {
  json: "JSON",
  jsonl: "JSON lines",
  csv: "CSV",
  tsv: "TSV",
  parquet: "Parquet",
  text: "text",
};

type Part = keyof ColumnMapping;

/** The parts of each layout, in the order of a row: name, and whether a row may lack it. */
export const PARTS: Record<RowLayout, { part: Part; name: string; optional: boolean }[]> = {
  alpaca: [
    { part: "prompt", name: "Instruction", optional: false },
    { part: "input", name: "Input", optional: true },
    { part: "answer", name: "Output", optional: false },
    { part: "system", name: "System message", optional: true },
  ],
  share_gpt: [{ part: "turns", name: "Conversation", optional: false }, { part: "system", name: "System message", optional: true }],
  messages: [{ part: "turns", name: "Messages", optional: false }, { part: "system", name: "System message", optional: true }],
  prompt_completion: [
    { part: "prompt", name: "Prompt", optional: false },
    { part: "answer", name: "Completion", optional: false },
    { part: "system", name: "System message", optional: true },
  ],
  question_answer: [
    { part: "prompt", name: "Question", optional: false },
    { part: "answer", name: "Answer", optional: false },
    { part: "system", name: "System message", optional: true },
  ],
  text: [{ part: "text", name: "Text", optional: false }],
};

export const STATES: Record<JobState, string> = {
  queued: "waits for the machine",
  running: "at work",
  done: "done",
  failed: "failed",
  cancelled: "cancelled",
  paused: "paused",
  interrupted: "interrupted",
};

/** Linear maps that can be adapted, by PEFT's names; a GPT-NeoX model takes them for its own. */
export const MAPS: { name: string; words: string }[] = [
  { name: "q_proj", words: "queries" },
  { name: "k_proj", words: "keys" },
  { name: "v_proj", words: "values" },
  { name: "o_proj", words: "attention output" },
  { name: "gate_proj", words: "MLP gate" },
  { name: "up_proj", words: "MLP up" },
  { name: "down_proj", words: "MLP down" },
];

/** What is adapted where nothing is said. */
export const USUAL_MAPS = ["q_proj", "v_proj"];
