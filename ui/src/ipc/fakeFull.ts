// An invented past of the window for the browser: chats, scorecards, runs, and a job that was interrupted. Never part of a
// production build.
import { FAKE_REPLY, fakeRun, STAGES } from "./fakeData";
import type { StoredCard } from "./fake";
import type { Chat, Job, ModelEntry, Reply, RunDetails, ScorecardRequest } from "./index";

export interface Past {
  chats: Chat[];
  cards: StoredCard[];
  runs: RunDetails[];
  jobs: Job[];
}

export function fullPast(models: ModelEntry[], now: number, nextId: () => number): Past {
  const past: Past = { chats: [], cards: [], runs: [], jobs: [] };
  const of = (model: string, text: string, change: Partial<Reply> = {}): Reply => ({
    model,
    text,
    prompt_tokens: 38,
    tokens: 96,
    ttft_s: 0.183,
    tokens_per_s: 151.7,
    finish_reason: "stop",
    error: null,
    ...change,
  });
  const options = { temperature: 0, max_tokens: 512 };
  past.chats.push(
    {
      id: nextId(),
      title: "How do loops work in Python?",
      models: ["starter", "tinyllama-1.1b-chat"],
      options,
      updated_at: now - 600,
      turns: [
        { kind: "user", text: "How do loops work in Python?" },
        {
          kind: "replies",
          replies: [
            of("starter", FAKE_REPLY),
            of("tinyllama-1.1b-chat", "A loop repeats a block of code. `for` goes over a list", {
              error: {
                code: "worker_died",
                message: "the engine process was killed (signal 9) after 12 tokens, probably for lack of memory: 2.1 GB were in use. Close other programs or take a smaller model.",
              },
              finish_reason: "error",
              tokens: 12,
            }),
          ],
        },
      ],
    },
    {
      id: nextId(),
      title: "Once upon a time",
      models: ["pythia-1b"],
      options,
      updated_at: now - 90_000,
      turns: [
        { kind: "user", text: "Once upon a time" },
        { kind: "replies", replies: [of("pythia-1b", ", there was a king who had three sons, and the youngest of them was called", { finish_reason: "length" })] },
      ],
    },
  );
  const card = (request: ScorecardRequest, age: number, stages: number): StoredCard => {
    const made = { id: nextId(), createdAt: now - age, request, stages };
    past.cards.push(made);
    for (let at = 0; at < stages; at += 1) {
      const model = models.find(({ id }) => id === request.models[Math.floor(at / STAGES.length)]);
      const task = STAGES[at % STAGES.length];
      if (model === undefined || task === undefined) continue;
      past.runs.push(fakeRun(made.id * 100 + at, task, model, now - age + at * 60, made.id));
    }
    return made;
  };
  card({ models: ["starter", "tinyllama-1.1b-chat", "llama-3.2-1b", "pythia-1b"], size: "standard" }, 3600, 16);
  card({ models: ["starter"], size: "quick" }, 86_400, 4);
  card({ models: ["starter", "llama-3.2-1b"], size: "quick" }, 100_000, 8);
  const broken = card({ models: ["tinyllama-1.1b-chat"], size: "full" }, 200_000, 1);
  past.jobs.push({
    id: nextId(),
    title: "Full scorecard of TinyLlama 1.1B Chat",
    state: "interrupted",
    step: "MMLU of TinyLlama 1.1B Chat",
    done: 5120,
    total: 14_042,
    eta_s: null,
    rate: null,
    pausable: true,
    error: null,
    started_at: now - 200_000,
    scorecard: broken.id,
    run: null,
    model: null,
  });
  return past;
}
