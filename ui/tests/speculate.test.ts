// The pair lab: who fits whom, what is measured, what came of it with its proof and its texts piece by piece; and drafts in Chat.
import { fireEvent, screen, waitFor, within } from "@testing-library/svelte";
import { describe, expect, it } from "vitest";
import { FakeIpc } from "../src/ipc/fake";
import { fakeModels } from "../src/ipc/fakeData";
import { installed } from "../src/ipc/fakeSpeculate";
import { finished, key, openChat, openOn, press, reply, say, type } from "./window";

const PAIR = ["smollm2-1.7b", "starter"] as const;

/** The starter model's large sister is on this machine as well. */
function withPair(): FakeIpc {
  const ipc = new FakeIpc();
  ipc.models = ipc.models.map((model) => (model.id === PAIR[0] ? installed(model) : model));
  return ipc;
}

async function openLab(ipc: FakeIpc): Promise<FakeIpc> {
  await openOn(ipc);
  await press("nav-speculate");
  await screen.findByTestId("lab-target");
  return ipc;
}

async function choose(testid: string, value: string): Promise<void> {
  await fireEvent.change(await screen.findByTestId(testid), { target: { value } });
}

const start = (): HTMLButtonElement => screen.getByTestId("lab-start") as HTMLButtonElement;
const works = () => waitFor(() => expect(screen.getByTestId("lab-check").dataset["works"]).toBe("true"));

/** Measures the pair and waits for its result. */
async function measured(ipc = withPair()): Promise<FakeIpc> {
  await openLab(ipc);
  await press(`lab-use-${PAIR.join("-")}`);
  await works();
  await press("lab-start");
  await screen.findByTestId("lab-result");
  return ipc;
}

describe("a pair", () => {
  it("that does not fit says the first difference, and cannot be measured", async () => {
    const ipc = await openLab(new FakeIpc());
    expect(start().disabled).toBe(true);
    expect(screen.getByTestId("lab-missing").textContent).toContain("Choose the large model first");
    await choose("lab-target", "llama-3.2-1b");
    const drafts = [...screen.getByTestId("lab-draft").querySelectorAll("option")].map((option) => option.value);
    expect(drafts).toEqual(["", "starter", "tinyllama-1.1b-chat", "pythia-1b", "lookup:"]);
    await choose("lab-draft", "starter");
    await waitFor(() => expect(screen.getByTestId("lab-check").textContent).toContain("They cannot work together."));
    expect(screen.getByTestId("lab-check").textContent).toContain("token 259 is “ t” of Llama 3.2 1B Instruct and “he”");
    expect(start().disabled).toBe(true);
    await choose("lab-draft", "lookup:");
    await works();
    expect(start().disabled).toBe(false);
    expect(ipc.speculated).toEqual([]);
  });

  it("loses its draft when the new target is no larger", async () => {
    await openLab(withPair());
    await choose("lab-target", PAIR[0]);
    await choose("lab-draft", "tinyllama-1.1b-chat");
    await choose("lab-target", "starter");
    expect((screen.getByTestId("lab-draft") as HTMLSelectElement).value).toBe("");
    expect(screen.getByTestId("lab-missing").textContent).toContain("Choose who drafts");
  });

  it("shows the answer for what is chosen last, whichever comes first", async () => {
    const ipc = withPair();
    const check = ipc.checkPair.bind(ipc);
    ipc.checkPair = async (target, drafter) => {
      const answer = await check(target, drafter);
      await new Promise((resolve) => setTimeout(resolve, drafter.kind === "lookup" ? 5 : 60));
      return answer;
    };
    await openLab(ipc);
    await choose("lab-target", "llama-3.2-1b");
    await choose("lab-draft", "starter");
    await choose("lab-draft", "lookup:");
    await works();
    await new Promise((resolve) => setTimeout(resolve, 90));
    expect(screen.getByTestId("lab-check").dataset["works"]).toBe("true");
  });

  it("begins with a target from the palette", async () => {
    await openOn(withPair());
    await screen.findByTestId("pick-starter");
    await key("k", { ctrlKey: true });
    await type("palette-input", "speed up smollm2 1.7b");
    await key("Enter");
    expect(((await screen.findByTestId("lab-target")) as HTMLSelectElement).value).toBe(PAIR[0]);
    expect(screen.getByTestId("lab-missing").textContent).toContain("Choose who drafts");
  });

  it("whose check fails can be looked at again", async () => {
    const ipc = withPair();
    const check = ipc.checkPair.bind(ipc);
    ipc.checkPair = () => Promise.reject({ code: "failed", message: "tokenizer.json cannot be read: permission denied" });
    await openLab(ipc);
    await press(`lab-use-${PAIR.join("-")}`);
    const note = await screen.findByTestId("lab-check-error");
    expect(note.textContent).toContain("permission denied");
    expect(start().disabled).toBe(true);
    ipc.checkPair = check;
    await fireEvent.click(within(note).getByText("Try again"));
    await works();
  });

  it("of the catalogue is chosen by one click, or leads to its download", async () => {
    await openLab(withPair());
    await press(`lab-use-${PAIR.join("-")}`);
    await works();
    expect(screen.getByTestId("lab-check").textContent).toContain("49,152 tokens compared");
    expect((screen.getByTestId("lab-target") as HTMLSelectElement).value).toBe(PAIR[0]);
    expect((screen.getByTestId("lab-draft") as HTMLSelectElement).value).toBe(PAIR[1]);
    expect(screen.getByTestId(`lab-use-${PAIR.join("-")}`).getAttribute("aria-pressed")).toBe("true");
    await press("lab-get-llama-2-7b");
    await screen.findByTestId("view-models");
    const card = await screen.findByTestId("model-card-llama-2-7b");
    expect(document.activeElement).toBe(within(card).getByTestId("download-start-llama-2-7b"));
  });
});

describe("a measurement", () => {
  it("is asked for with its options; what is out of bounds is not", async () => {
    const ipc = await openLab(withPair());
    await press(`lab-use-${PAIR.join("-")}`);
    await works();
    expect(screen.getByTestId("lab-summary").textContent).toBe("5 prompts, greedy, k chosen by what pays, up to 128 tokens, 3 repeats, each k tried");
    expect(screen.getByTestId("lab-options").textContent).toContain("The tide mill at Carrow");
    await press("lab-kind-story");
    await press("lab-kind-chat");
    await type("lab-own", "Write a limerick about a tide mill.");
    await type("lab-k", "4");
    await type("lab-k", "16");
    expect(screen.getByText("Give a whole number from 1 to 15.")).toBeTruthy();
    await type("lab-temperature", "0.7");
    await type("lab-temperature", "-1");
    expect(screen.getByText("Give a number from 0 to 5.")).toBeTruthy();
    await type("lab-seed", "7");
    await type("lab-max-tokens", "64");
    await type("lab-repeat", "2");
    await press("lab-sweep");
    await press("lab-start");
    await waitFor(() => expect(ipc.speculated).toHaveLength(1));
    expect(ipc.speculated[0]).toEqual({
      target: PAIR[0],
      drafter: { kind: "model", model: PAIR[1] },
      k: 4,
      kinds: ["code", "summary", "translation"],
      prompts: ["Write a limerick about a tide mill."],
      raw: false,
      temperature: 0.7,
      seed: 7,
      max_tokens: 64,
      repeat: 2,
      sweep: false,
    });
  });

  it("is greedy, automatic and of all kinds unless told", async () => {
    const ipc = await measured();
    expect(ipc.speculated[0]).toMatchObject({ k: "auto", kinds: ["chat", "code", "summary", "translation", "story"], prompts: [], temperature: 0, max_tokens: 128, repeat: 3, sweep: true });
  });

  it("needs a prompt", async () => {
    await openLab(withPair());
    await press(`lab-use-${PAIR.join("-")}`);
    await works();
    for (const kind of ["chat", "code", "summary", "translation", "story"]) await press(`lab-kind-${kind}`);
    expect(start().disabled).toBe(true);
    expect(screen.getByTestId("lab-missing").textContent).toContain("kind of prompts");
    await type("lab-own", "Hello");
    expect(start().disabled).toBe(false);
  });

  it("is watched and cancelled in its view", async () => {
    const ipc = withPair();
    ipc.holdLab = 5;
    await openLab(ipc);
    await press(`lab-use-${PAIR.join("-")}`);
    await works();
    await press("lab-start");
    await waitFor(() => expect(ipc.jobs).toHaveLength(1));
    const id = ipc.jobs[0]?.id;
    const line = await screen.findByTestId(`lab-job-${id}`);
    await waitFor(() => expect(line.textContent).toContain("33\u202f%"));
    expect(line.textContent).toContain("Repeat 1 of 3: chat");
    await press(`lab-cancel-${id}`);
    await waitFor(() => expect(line.dataset["state"]).toBe("cancelled"));
    expect(screen.queryByTestId("lab-result")).toBeNull();
  });

  it("that cannot start says why", async () => {
    const ipc = withPair();
    ipc.startSpeculation = () => Promise.reject({ code: "busy", message: "another Billion measures: wait for it, or end it" });
    await openLab(ipc);
    await press(`lab-use-${PAIR.join("-")}`);
    await works();
    await press("lab-start");
    expect((await screen.findByTestId("lab-start-error")).textContent).toContain("Another Billion measures");
  });

  it("of the starter model with prompt lookup starts at one click", async () => {
    const ipc = await openLab(new FakeIpc());
    const button = await screen.findByTestId("lab-starter");
    expect(button.textContent).toBe("Measure SmolLM2 135M Instruct with prompt lookup");
    await press("lab-starter");
    const result = await screen.findByTestId("lab-result");
    expect(ipc.speculated[0]).toMatchObject({ target: "starter", drafter: { kind: "lookup" }, kinds: ["chat", "code", "summary", "translation", "story"] });
    expect(result.textContent).toContain("prompt lookup");
    await press("lab-new");
    await waitFor(() => expect(screen.queryByTestId("lab-result")).toBeNull());
    expect(screen.queryByTestId("lab-starter")).toBeNull();
  });
});

describe("a result", () => {
  it("tells the speed-up with its range, the advice and the plain facts", async () => {
    const ipc = await measured();
    const [found] = [...ipc.speculations.values()];
    if (found === undefined) throw new Error("nothing measured");
    const { report } = found;
    const speed = screen.getByTestId("lab-speedup").textContent ?? "";
    expect(speed).toContain(`${report.speedup.toFixed(2)}×`);
    expect(speed).toContain(`${report.speedup_repeats.min.toFixed(2)}–${report.speedup_repeats.max.toFixed(2)} over 3 repeats`);
    expect(screen.getByTestId("lab-advice").dataset["on"]).toBe("true");
    expect(screen.getByTestId("lab-advice").textContent).toContain("Switch it on, k = 4");
    const facts = screen.getByTestId("lab-facts").textContent ?? "";
    for (const words of ["24.4\u202ftok/s", `Predicted speed-up${report.predicted_speedup?.toFixed(2)}×`, "Drafts accepted87.6\u202f%", "Alpha0.94", "Tokens a pass7.52"]) {
      expect(facts).toContain(words);
    }
    const row = screen.getByTestId("lab-row-summary").textContent ?? "";
    expect(row).toContain(`${report.by_prompt[2]?.speedup.toFixed(2)}×`);
    expect(row).not.toContain("switched off");
    expect(screen.getAllByTestId("chart")).toHaveLength(3);
    expect(screen.getByTestId("lab-command").textContent).toContain("billion speculate --target smollm2-1.7b --draft starter");
    expect(screen.getByTestId("lab-machine").textContent).toContain("AVX512-VNNI, 2 threads, other programs kept 0.1 cores busy");
  });

  it("proves that greedy output is identical, with both hashes", async () => {
    const ipc = await measured();
    const proof = screen.getByTestId("lab-proof");
    expect(proof.dataset["sign"]).toBe("same");
    const count = [...ipc.speculations.values()][0]?.report.tokens.length;
    expect(proof.textContent).toContain(`Greedy output is identical: ${count} of ${count} tokens.`);
    const [plain, drafted] = within(proof).getAllByTestId("lab-hash");
    expect(plain?.title).toMatch(/^[0-9a-f]{64}$/);
    expect(plain?.title).toBe(drafted?.title);
    expect(plain?.textContent).toBe(`${plain?.title.slice(0, 16)}…`);
  });

  it("says where the output differs, should it ever", async () => {
    const ipc = withPair();
    ipc.differs = true;
    await measured(ipc);
    const proof = screen.getByTestId("lab-proof");
    expect(proof.dataset["sign"]).toBe("differs");
    expect(proof.textContent).toMatch(/Greedy output differs: Code from token 13 of \d+ on\./);
    expect(proof.textContent).toContain("mistake in Billion");
    const [plain, drafted] = within(proof).getAllByTestId("lab-hash");
    expect(plain?.title).not.toBe(drafted?.title);
    await press("lab-tab-1");
    expect(screen.getByTestId("lab-text-facts").textContent).toContain("differs from plain decoding from token 13 on");
  });

  it("of drawn text says that the distribution is kept, and proves nothing by hashes", async () => {
    const ipc = await openLab(withPair());
    await press(`lab-use-${PAIR.join("-")}`);
    await works();
    await type("lab-temperature", "0.8");
    await press("lab-start");
    const proof = await screen.findByTestId("lab-proof");
    expect(ipc.speculated[0]?.temperature).toBe(0.8);
    expect(proof.dataset["sign"]).toBe("drawn");
    expect(proof.textContent).toContain("preserves the target's distribution");
    expect(within(proof).queryByTestId("lab-hash")).toBeNull();
  });

  it("shows each text with what was drafted, rejected and corrected, not by colour alone", async () => {
    await measured();
    await press("lab-tab-4");
    expect(screen.getByTestId("lab-tab-4").getAttribute("aria-selected")).toBe("true");
    const trace = screen.getByTestId("lab-trace");
    const texts = (selector: string): (string | null)[] => [...trace.querySelectorAll(selector)].map((piece) => piece.textContent);
    expect(texts("ins")).toContain(" had kept the");
    expect(texts("del")).toEqual([" rejected:  man", " rejected:  lighthouse for", " rejected:  thirty", " rejected:  washed up"]);
    expect(texts("mark")).toEqual([" corrected:  Tomas", " corrected:  lamp", " corrected:  forty", " corrected:  brought"]);
    expect(texts(".bonus")).toEqual([" a"]);
    expect(trace.querySelector("del")?.nextElementSibling?.tagName).toBe("MARK");
    // Written text is text.
    expect(trace.textContent).toContain("<b>with");
    expect(trace.querySelector("b")).toBeNull();
    const legend = screen.getByTestId("lab-legend").textContent ?? "";
    for (const words of ["accepted", "rejected", "corrected", "bonus", "plain"]) expect(legend).toContain(words);
    expect(screen.getByTestId("lab-prompt").textContent).toContain("lighthouse keeper");
    expect(screen.getByTestId("lab-text-facts").textContent).toContain("The same to the token as plain decoding");
  });

  it("of a pair that does not pay advises against it, and tells where it switched itself off", async () => {
    const ipc = withPair();
    ipc.pays = false;
    await measured(ipc);
    expect(screen.getByTestId("lab-advice").dataset["on"]).toBe("false");
    expect(screen.getByTestId("lab-advice").textContent).toContain("Leave it off");
    expect(screen.getByTestId("lab-row-chat").textContent).toContain("switched off");
    expect(screen.getByTestId("lab-off").textContent).toContain("switched itself off");
  });

  it("is exported, opened again from the list, and from Results", async () => {
    const ipc = await measured();
    const [run] = [...ipc.speculations.keys()];
    await press("export");
    await press("export-json");
    await waitFor(() => expect(ipc.exported).toEqual([{ scorecard: null, runs: [run], format: "json", out: `/home/me/billion-speculate-${run}.json` }]));
    await press("lab-new");
    await press(`lab-open-${run}`);
    await screen.findByTestId("lab-result");
    await press("lab-in-results");
    expect((await screen.findByTestId("run-details")).textContent).toContain("Speculation run");
    await press("run-lab");
    expect((await screen.findByTestId("lab-result")).dataset["run"]).toBe(String(run));
  });

  it("that is gone says so", async () => {
    const ipc = await measured();
    ipc.loadSpeculation = () => Promise.reject({ code: "failed", message: "there is no run 9001" });
    const [run] = [...ipc.speculations.keys()];
    await press("lab-new");
    await press(`lab-open-${run}`);
    expect((await screen.findByTestId("lab-open-error")).textContent).toContain("There is no run 9001");
  });
});

it("says what to do where there is no model", async () => {
  const ipc = new FakeIpc({ models: fakeModels().map((model) => ({ ...model, installed: false })) });
  await openOn(ipc);
  await press("nav-speculate");
  expect((await screen.findByTestId("view-speculate")).textContent).toContain("No model to speed up");
});

describe("drafts in Chat", () => {
  it("are taken over from the lab, and fare as the reply says", async () => {
    const ipc = await measured();
    ipc.paceMs = 15;
    await press("lab-chat");
    await screen.findByTestId("view-chat");
    expect((await screen.findByTestId("chat-draft")).title).toContain("SmolLM2 135M Instruct");
    await say("Hello");
    await waitFor(() => expect(within(reply()).getByTestId("reply-status").textContent).toContain("accepted 71\u202f% of drafts, 1.8×"));
    const done = await finished();
    expect(ipc.sent[0]).toMatchObject({ models: [PAIR[0]], options: { draft: { kind: "model", model: PAIR[1] } } });
    expect(within(done).getByTestId("reply-stats").textContent).toContain("152\u202ftok/s · accepted 71\u202f% of drafts, 1.8× · first token");
    expect(within(done).getByTestId("reply-speculation").title).toMatch(/with SmolLM2 135M Instruct: \d+ of \d+ drafted tokens accepted/);
  });

  it("are switched on in the options, with only those that fit, and stored with the chat", async () => {
    const ipc = withPair();
    await openOn(ipc);
    await openChat([PAIR[0]]);
    await press("chat-models");
    await press("chat-model-starter");
    await press("chat-models");
    await press("chat-options");
    expect(screen.queryByTestId("option-draft")).toBeNull();
    await press("option-speculate");
    const draft = (await screen.findByTestId("option-draft")) as HTMLSelectElement;
    await waitFor(() => expect([...draft.options].map((option) => option.value)).toEqual(["starter", "lookup:"]));
    expect(draft.value).toBe("starter");
    await fireEvent.change(draft, { target: { value: "lookup:" } });
    await say("Summarise this");
    await finished();
    expect(ipc.sent[0]?.options.draft).toEqual({ kind: "lookup" });
    expect(ipc.chats[0]?.options.draft).toEqual({ kind: "lookup" });
    expect(within(reply()).getByTestId("reply-speculation").title).toContain("prompt lookup");
    await press("option-speculate");
    await say("And this");
    await waitFor(() => expect(ipc.sent).toHaveLength(2));
    expect(ipc.sent[1]?.options.draft).toBeNull();
  });

  it("say that they do not pay, and why a column has none", async () => {
    const ipc = withPair();
    ipc.pays = false;
    ipc.chats.push({
      id: 70,
      title: "Hello",
      models: [PAIR[0], "pythia-1b"],
      options: { draft: { kind: "model", model: PAIR[1] } },
      turns: [{ kind: "user", text: "Hello" }],
      updated_at: 0,
    });
    await openOn(ipc);
    await press("nav-chat");
    await press("chat-open-70");
    await press("chat-answer");
    const first = await finished(0);
    const second = await finished(1);
    expect(within(first).getByTestId("reply-speculation").textContent).toBe("accepted 4\u202f% of drafts, 0.9×, does not pay here, switched itself off");
    expect(within(second).getByTestId("reply-speculation").textContent).toBe("without drafts: SmolLM2 135M Instruct has another vocabulary");
  });

  it("are unknown to chats of before, which open as they were", async () => {
    const ipc = new FakeIpc();
    ipc.chats.push({
      id: 71,
      title: "Old",
      models: ["starter"],
      options: {},
      turns: [
        { kind: "user", text: "Hello" },
        { kind: "replies", replies: [{ model: "starter", text: "Hi.", prompt_tokens: 4, tokens: 2, ttft_s: 0.1, tokens_per_s: 100, finish_reason: "stop", error: null }] },
      ],
      updated_at: 0,
    });
    await openOn(ipc);
    await press("nav-chat");
    await press("chat-open-71");
    expect((await finished()).textContent).toContain("Hi.");
    expect(screen.queryByTestId("reply-speculation")).toBeNull();
    expect(screen.queryByTestId("chat-draft")).toBeNull();
    await say("Again");
    await waitFor(() => expect(ipc.sent[0]?.options.draft).toBeNull());
  });
});
