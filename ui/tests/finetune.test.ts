// Fine-tuning: a dataset dropped or chosen, its columns named by hand, its problems agreed to, the forecast, a training that
// is watched, paused and gone on with, its report card, and what can be done with its adapter.
import { fireEvent, screen, waitFor, within } from "@testing-library/svelte";
import { describe, expect, it } from "vitest";
import { FakeIpc } from "../src/ipc/fake";
import { fakeModels } from "../src/ipc/fakeData";
import { openOn, press, type } from "./window";

async function openTune(ipc = new FakeIpc()): Promise<FakeIpc> {
  await openOn(ipc);
  await press("nav-finetune");
  await screen.findByTestId("tune-sample");
  return ipc;
}

async function drop(ipc: FakeIpc, path: string): Promise<void> {
  ipc.drag({ kind: "drop", paths: [path] });
  await screen.findByTestId("tune-data");
}

async function choose(testid: string, value: string): Promise<void> {
  await fireEvent.change(await screen.findByTestId(testid), { target: { value } });
}

const ready = () => waitFor(() => expect((screen.getByTestId("tune-start") as HTMLButtonElement).disabled).toBe(false));

/** Trains the sample and waits for its report card. */
async function trained(ipc = new FakeIpc()): Promise<FakeIpc> {
  await openTune(ipc);
  await press("tune-sample");
  await ready();
  await press("tune-start");
  await screen.findByTestId("tune-report");
  return ipc;
}

describe("a dataset", () => {
  it("dropped on any view leads here, and is shown as the model sees it", async () => {
    const ipc = new FakeIpc();
    await openOn(ipc);
    ipc.drag({ kind: "over" });
    expect((await screen.findByTestId("import-drop")).textContent).toContain("dataset");
    await drop(ipc, "/home/me/data/facts.jsonl");
    await screen.findByTestId("view-finetune");
    expect((await screen.findByTestId("tune-detected")).textContent).toContain("JSON lines, Question and answer");
    const counts = screen.getByTestId("tune-counts").textContent ?? "";
    for (const words of ["Rows100", "To train on90", "Held out10", "Repeats2", "Too long1"]) expect(counts).toContain(words);
    expect(screen.getByTestId("tune-histogram").textContent).toContain("33–64");
    const [row] = screen.getAllByTestId("tune-row");
    if (row === undefined) throw new Error("no row");
    const learnt = [...row.querySelectorAll<HTMLElement>('[data-scored="true"]')].map((piece) => piece.textContent);
    expect(learnt).toEqual([" learnt: Elsin Tavor founded Marrowick in 1294.<|im_end|>"]);
    expect(row.querySelector('[data-scored="false"]')?.textContent).toContain("<|im_start|>user");
    expect(screen.getByTestId("tune-dataset").textContent).toContain("the model's own chat template");
  });

  it("says why it cannot be read, and that it is empty", async () => {
    const ipc = await openTune();
    await drop(ipc, "/home/me/data/empty.jsonl");
    expect((await screen.findByTestId("tune-look-error")).textContent).toContain("0 bytes");
    expect((screen.getByTestId("tune-start") as HTMLButtonElement).disabled).toBe(true);
  });

  it("of unknown columns is mapped by hand", async () => {
    const ipc = await openTune();
    await drop(ipc, "/home/me/data/columns.csv");
    expect((await screen.findByTestId("tune-detected")).textContent).toContain("columns not recognised");
    expect(screen.getByTestId("tune-data-error").textContent).toContain("which column");
    expect(screen.getByTestId("tune-missing").textContent).toContain("columns");
    await choose("tune-layout", "question_answer");
    await choose("tune-map-prompt", "frage");
    await choose("tune-map-answer", "antwort");
    await screen.findByTestId("tune-rows");
    await ready();
    await press("tune-start");
    await waitFor(() => expect(ipc.tuned).toHaveLength(1));
    expect(ipc.tuned[0]?.dataset.mapping).toEqual({ prompt: "frage", answer: "antwort" });
    expect(ipc.tuned[0]?.dataset.layout).toBe("question_answer");
  });

  it("with problems starts only with consent", async () => {
    const ipc = await openTune();
    await drop(ipc, "/home/me/data/bad.jsonl");
    const problems = await screen.findByTestId("tune-problems");
    expect(problems.textContent).toContain("3 rows have problems");
    expect(problems.textContent).toContain("line 7: the column answer is missing");
    expect((screen.getByTestId("tune-start") as HTMLButtonElement).disabled).toBe(true);
    await press("tune-skip");
    await ready();
    await press("tune-start");
    await waitFor(() => expect(ipc.tuned[0]?.dataset.skip_problems).toBe(true));
  });
});

describe("a training", () => {
  it("is forecast, and asked for with its options", async () => {
    const ipc = await openTune();
    await press("tune-sample");
    await screen.findByTestId("forecast-time");
    expect((screen.getByTestId("tune-epochs") as HTMLInputElement).value).toBe("10");
    expect(screen.getByTestId("forecast-memory").textContent).toContain("640");
    expect(screen.getByTestId("forecast-trainable").textContent).toContain("460,800");
    await type("tune-epochs", "2");
    await type("tune-rank", "16");
    await press("tune-targets-usual");
    await press("tune-targets-all");
    await type("tune-name", "town facts");
    await type("tune-held-out", "20");
    await press("tune-forgetting");
    await ready();
    await waitFor(() => expect(screen.getByTestId("forecast-trainable").textContent).toContain("921,600"));
    await press("tune-start");
    await waitFor(() => expect(ipc.tuned).toHaveLength(1));
    const [request] = ipc.tuned;
    expect(request).toMatchObject({ model: "starter", name: "town facts", forgetting: true, out: null });
    expect(request?.options).toMatchObject({ epochs: 2, rank: 16, alpha: 32, targets: ["all-linear"], batch: 4 });
    expect(request?.dataset).toMatchObject({ eval_fraction: 0.2, max_len: 512 });
  });

  it("that does not fit into memory says so before it starts", async () => {
    const ipc = new FakeIpc();
    ipc.forecastPeak = 20e9;
    await openTune(ipc);
    await press("tune-sample");
    const memory = await screen.findByTestId("forecast-memory");
    expect(memory.textContent).toContain("20.0");
    expect(memory.classList).toContain("bad");
  });

  it("is watched, paused, and goes on from its checkpoint", async () => {
    const ipc = new FakeIpc();
    ipc.holdStep = 12;
    await openTune(ipc);
    await press("tune-sample");
    await ready();
    await press("tune-start");
    await waitFor(() => expect(screen.getByTestId("tune-figures").textContent).toContain("12 of 40"));
    const figures = screen.getByTestId("tune-figures").textContent ?? "";
    for (const words of ["Held-out loss", "420", "Time left", "460,800 (0.34 %)", "step 10"]) expect(figures).toContain(words);
    expect(screen.getByTestId("chart").textContent).toContain("held-out rows");
    await press("tune-pause");
    await waitFor(() => expect(screen.getByTestId("tune-run").dataset["state"]).toBe("paused"));
    expect(screen.getByTestId("tune-kept").textContent).toContain("after step 10");
    ipc.holdStep = 40;
    await press("tune-resume");
    expect((await screen.findByTestId("tune-report")).dataset["complete"]).toBe("true");
    expect(screen.queryByTestId("tune-live")).toBeNull();
  });

  it("has a line in the job tray that leads to it", async () => {
    const ipc = await trained();
    await press("nav-models");
    await press(`job-view-${ipc.jobs[0]?.id}`);
    await screen.findByTestId("tune-report");
  });

  it("that fails says why and offers to go on", async () => {
    const ipc = new FakeIpc();
    ipc.holdStep = 7;
    await openTune(ipc);
    await press("tune-sample");
    await ready();
    await press("tune-start");
    await screen.findByTestId("tune-figures");
    const job = ipc.jobs[0]?.id ?? 0;
    ipc.changeJob(job, { state: "failed", error: { code: "failed", message: "the disk is full: 12 MB are needed for a checkpoint, 3 MB are free" } });
    expect((await screen.findByTestId("tune-error")).textContent).toContain("3 MB are free");
    expect(screen.getByTestId("tune-resume")).toBeTruthy();
  });
});

describe("the report card", () => {
  it("says whether it helped, with answers side by side as text", async () => {
    await trained();
    expect(screen.getByTestId("tune-verdicts").textContent).toContain("It helped");
    expect(screen.getByTestId("tune-held").textContent).toContain("22.20 → 4.14");
    expect(screen.getByTestId("tune-recall").textContent).toContain("0 → 47 of 50");
    const answers = screen.getByTestId("tune-answers");
    expect(within(answers).getAllByRole("row")).toHaveLength(6);
    expect(answers.textContent).toContain("<b>John</b>");
    expect(answers.querySelector("b")).toBeNull();
    expect(screen.queryByTestId("tune-mmlu")).toBeNull();
    expect(screen.getByTestId("tune-command").textContent).toContain("billion finetune --model starter");
  });

  it("shows what was forgotten where that was asked for", async () => {
    const ipc = await openTune();
    await press("tune-sample");
    await press("tune-forgetting");
    await ready();
    await press("tune-start");
    expect((await screen.findByTestId("tune-mmlu")).textContent).toContain("41 lost, 35 gained, p = 0.567");
    expect(ipc.tuned[0]?.forgetting).toBe(true);
  });
});

describe("an adapter", () => {
  it("is chatted with beside its model, and is a model wherever there are models", async () => {
    const ipc = await trained();
    await waitFor(() => expect(ipc.models.some((model) => model.id === "starter+orrinsholt")).toBe(true));
    await press("tune-chat");
    await screen.findByTestId("view-chat");
    await type("chat-input", "Who founded Marrowick?");
    await fireEvent.keyDown(screen.getByTestId("chat-input"), { key: "Enter" });
    await waitFor(() => expect(ipc.sent.at(-1)?.models).toEqual(["starter", "starter+orrinsholt"]));
    await press("nav-models");
    expect((await screen.findByTestId("model-card-starter+orrinsholt")).textContent).toContain("fine-tuned here");
    expect(screen.queryByTestId("model-tune-starter+orrinsholt")).toBeNull();
    await press("model-tune-starter");
    await screen.findByTestId("tune-sample");
  });

  it("is exported, merged, shown in its folder, and deleted when asked twice", async () => {
    const ipc = await trained();
    const id = ipc.trainings[0]?.id;
    await press("tune-export");
    expect((await screen.findByTestId("tune-exported")).textContent).toContain("/home/me/adapter");
    expect(ipc.copied).toEqual([[id, "/home/me/adapter"]]);
    await choose("tune-quant", "q4_k_m");
    await press("tune-merge");
    await waitFor(() => expect(ipc.converted).toEqual([{ model: "starter+orrinsholt", quant: "q4_k_m", out: "/home/me/merged.gguf", adapter: null }]));
    await press("tune-folder");
    await waitFor(() => expect(ipc.openedFolders).toEqual([id]));
    await press("tune-delete");
    await press("confirm-tune-delete");
    await screen.findByTestId("tune-sample");
    expect(ipc.trainings).toEqual([]);
  });
});

it("says what to do where there is no model", async () => {
  const ipc = new FakeIpc({ models: fakeModels().map((model) => ({ ...model, installed: false })) });
  await openOn(ipc);
  await press("nav-finetune");
  expect((await screen.findByTestId("view-finetune")).textContent).toContain("No model to tune");
});
