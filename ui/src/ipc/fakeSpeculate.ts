// The pair lab of the fake program: pairs by family, measurements that get on, and what came of them. Figures are
// invented, but hold together as real ones do. Never part of a production build.
import { known } from "./fakeCatalogue";
import { failed } from "./fakeJobs";
import { fakeReport, LAB_PROMPTS, labCharts } from "./fakeSpeculation";
import { FakeTune } from "./fakeTune";
import type {
  Drafter, Job, KnownPair, LabPrompt, ModelEntry, PairCheck, ReplySpeculation, RunDetails, Speculation, SpeculationRequest,
} from "./index";

/** Steps of a measurement. */
const STEPS = 12;

const PAIRS: [target: string, draft: string, words: string][] = [
  ["smollm2-1.7b", "starter", "One vocabulary of 49,152 tokens; the draft takes about 8 % of a target's step."],
  ["llama-2-7b", "tinyllama-1.1b-chat", "One vocabulary of 32,000 tokens."],
  ["llama-3.1-8b", "llama-3.2-1b", "One vocabulary of 128,256 tokens; the draft has a licence of its own."],
  ["pythia-6.9b", "pythia-1b", "One vocabulary; Pythia 6.9B has padding rows that nothing stands for."],
];

export class FakeSpeculate extends FakeTune {
  runs: RunDetails[] = [];
  /** Every measurement of a pair asked for, in order. */
  speculated: SpeculationRequest[] = [];
  readonly speculations = new Map<number, Speculation>();
  /** Measurements stop at this step until it is raised. */
  holdLab = STEPS;
  /** The next measurement finds another text, as only a fault could. */
  differs = false;
  /** Drafts pay on this machine; else speculation switches itself off. */
  pays = true;
  readonly #labs = new Map<number, SpeculationRequest>();

  async knownPairs(): Promise<KnownPair[]> {
    const here = (id: string): boolean => this.models.some((model) => model.id === id && model.installed);
    const name = (id: string): string => this.models.find((model) => model.id === id)?.name ?? id;
    return PAIRS.map(([target, draft, words]) => ({
      target,
      target_name: name(target),
      target_installed: here(target),
      draft,
      draft_name: name(draft),
      draft_installed: here(draft),
      words,
    })).sort((a, b) => Number(b.target_installed && b.draft_installed) - Number(a.target_installed && a.draft_installed));
  }

  async checkPair(target: string, drafter: Drafter): Promise<PairCheck> {
    await this.beat();
    const large = this.modelOf(target);
    if (drafter.kind === "lookup") return { works: true, problem: null, notes: ["Needs no second model: what followed the same words earlier in the text is tried."] };
    const small = this.modelOf(drafter.model);
    if (family(large) === family(small)) {
      return { works: true, problem: null, notes: ["49,152 tokens compared, all the same.", "The target has 12.7 times the draft's parameters."] };
    }
    return {
      works: false,
      problem: `the vocabularies differ: token 259 is “ t” of ${large.name} and “he” of ${small.name}. Choose a draft of the target's own family, or prompt lookup`,
      notes: [],
    };
  }

  async labPrompts(): Promise<LabPrompt[]> {
    return structuredClone(LAB_PROMPTS);
  }

  async startSpeculation(request: SpeculationRequest): Promise<Job> {
    const check = await this.checkPair(request.target, request.drafter);
    if (!check.works) throw failed(check.problem ?? "they do not fit");
    if (request.kinds.length + request.prompts.length === 0) throw failed("no prompt was chosen: choose a kind of prompts, or give one of your own");
    this.speculated.push(structuredClone(request));
    const draft = request.drafter.kind === "lookup" ? "prompt lookup" : this.modelOf(request.drafter.model).name;
    const job = this.newJob({ title: `Speculative decoding: ${this.modelOf(request.target).name} with ${draft}`, total: STEPS, pausable: false });
    this.#labs.set(job.id, request);
    void this.#measurePair(job.id, request);
    return job;
  }

  resumeSpeculation(job: number): void {
    const request = this.#labs.get(job);
    if (request !== undefined) void this.#measurePair(job, request);
  }

  async #measurePair(id: number, request: SpeculationRequest): Promise<void> {
    for (let done = 0; done < STEPS; ) {
      if (done < this.holdLab) done += 1;
      this.changeJob(id, { state: "running", step: `repeat 1 of ${request.repeat}: ${request.kinds[0] ?? "own prompt"}`, done: done - 1, eta_s: STEPS - done });
      await this.beat();
      if (!this.isRunning(id)) return;
    }
    const run = this.keepSpeculation(request, this.now());
    this.changeJob(id, { state: "done", step: "", done: STEPS, eta_s: null, run });
  }

  /** Stores a finished measurement; gives the number of its run. */
  keepSpeculation(request: SpeculationRequest, createdAt: number): number {
    const run = this.nextId++ + 9000;
    const target = this.modelOf(request.target);
    const draft = request.drafter.kind === "model" ? this.modelOf(request.drafter.model) : null;
    const report = fakeReport(run, request, { differs: this.differs, pays: this.pays });
    const command = `billion speculate --target ${target.id} ${draft === null ? "--lookup" : `--draft ${draft.id}`} --k ${request.k}`;
    this.speculations.set(run, {
      report,
      target_name: target.name,
      draft_name: draft?.name ?? "prompt lookup",
      charts: labCharts(report),
      created_at: createdAt,
      command,
    });
    const speedup = `${report.speedup.toFixed(2)} times`;
    this.runs.unshift({
      summary: {
        id: run,
        task: "speculate",
        model: target.id,
        quant: target.quant ?? "?",
        headline: `${speedup} with ${draft?.name ?? "prompt lookup"}`,
        created_at: createdAt,
        scorecard: null,
      },
      facts: [{ label: "Threads", value: "2" }],
      figures: [{ label: "Speed-up", value: speedup }],
      questions: [],
      completions: [],
      charts: labCharts(report),
      command,
    });
    return run;
  }

  async loadSpeculation(run: number): Promise<Speculation> {
    const found = this.speculations.get(run);
    if (found === undefined) throw failed(`There is no speculation of run ${run}.`);
    return structuredClone(found);
  }

  /** How drafts fare in a reply after so many tokens. */
  drafts(target: string, drafter: Drafter | null, tokens: number): ReplySpeculation | null {
    if (drafter === null) return null;
    const draft = drafter.kind === "lookup" ? "prompt lookup" : (this.models.find((model) => model.id === drafter.model)?.name ?? drafter.model);
    const none = { draft, drafted: 0, accepted: 0, speedup: null, switched_off: false };
    if (drafter.kind === "model") {
      const small = this.models.find((model) => model.id === drafter.model && model.installed);
      if (small === undefined) return { ...none, problem: `${draft} is not on this machine` };
      if (family(small) !== family(this.modelOf(target))) return { ...none, problem: `${draft} has another vocabulary` };
    }
    const drafted = tokens * 7;
    const accepted = Math.round(drafted * (this.pays ? 0.71 : 0.04));
    return { draft, drafted, accepted, speedup: tokens < 3 ? null : this.pays ? 1.8 : 0.93, switched_off: !this.pays && tokens > 3, problem: null };
  }

  /** Puts the target of the starter model on this machine, and a measurement of both into the past. */
  installPair(): void {
    this.models = this.models.map((model) => (model.id === "smollm2-1.7b" ? installed(model) : model));
    this.keepSpeculation({ ...FULL, drafter: { kind: "lookup" }, kinds: ["summary", "translation"] }, this.now() - 7200);
    this.keepSpeculation(FULL, this.now() - 3600);
  }
}

const FULL: SpeculationRequest = {
  target: "smollm2-1.7b",
  drafter: { kind: "model", model: "starter" },
  k: "auto",
  kinds: ["chat", "code", "summary", "translation", "story"],
  prompts: [],
  raw: false,
  temperature: 0,
  seed: 0,
  max_tokens: 128,
  repeat: 3,
  sweep: true,
};

/** The large sister of the starter model, on this machine. */
export function installed(model: ModelEntry): ModelEntry {
  return {
    ...model,
    installed: true,
    quant: "Q4_0",
    bytes: 992_000_000,
    source: "imported",
    fit: { level: "well", words: "runs well: needs 1.4 GB, 12.4 GB free", sum: null },
    path: `/home/me/models/${model.id}.gguf`,
    known: known(model.id),
  };
}

function family(model: ModelEntry): string {
  return model.id === "starter" || model.id.startsWith("smollm2") ? "smollm2" : model.id.replace(/-\d.*$/, "");
}
