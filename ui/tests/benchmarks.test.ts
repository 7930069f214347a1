// One task at a time with all its options, its job and its run; where MMLU's questions come from.
import { fireEvent, screen, waitFor } from "@testing-library/svelte";
import { describe, expect, it } from "vitest";
import { FakeIpc } from "../src/ipc/fake";
import { fakeModels, fakeRun } from "../src/ipc/fakeData";
import type { FileDrop } from "../src/ipc";
import { key, openOn, openWindow, press, type } from "./window";

async function openBenchmarks(ipc = new FakeIpc()): Promise<FakeIpc> {
  await openOn(ipc);
  await press("nav-benchmarks");
  await screen.findByTestId("bench-model");
  return ipc;
}

/** What the last press of Start asked for. */
async function started(ipc: FakeIpc): Promise<unknown> {
  const before = ipc.benches.size;
  await press("bench-start");
  await waitFor(() => expect(ipc.benches.size).toBe(before + 1));
  return [...ipc.benches.values()].at(-1);
}

describe("a benchmark", () => {
  it("is asked for with its options, and leads to its run", async () => {
    const ipc = await openBenchmarks();
    await type("mmlu-shots", "3");
    await type("mmlu-limit", "10");
    await type("mmlu-stop", "2");
    await press("group-stem");
    await press("subject-machine_learning");
    expect(await started(ipc)).toEqual({
      task: "mmlu",
      model: "starter",
      shots: 3,
      limit: 10,
      subjects: ["abstract_algebra", "computer_security"],
      stop_at_half_width: 0.02,
    });
    await press("subjects-all");
    expect(screen.getByTestId("subjects").textContent).toContain("all 10");
    const job = ipc.jobs[0]?.id;
    await waitFor(() => expect(screen.getByTestId(`bench-job-${job}`).dataset["state"]).toBe("done"));
    await press(`job-view-${job}`);
    expect((await screen.findByTestId("run-command")).textContent).toContain("bench mmlu --model starter");
    await press("nav-benchmarks");
    await press(`bench-view-${job}`);
    await screen.findByTestId("run-details");
  });

  it("of every other task states what it measures", async () => {
    const ipc = await openBenchmarks();
    await fireEvent.change(screen.getByTestId("bench-model"), { target: { value: "pythia-1b" } });
    const model = "pythia-1b";
    await press("task-humaneval");
    await type("humaneval-limit", "20");
    await type("humaneval-n", "5");
    await type("humaneval-temperature", "0.2");
    expect(await started(ipc)).toEqual({ task: "humaneval", model, limit: 20, n: 5, temperature: 0.2, max_tokens: 512, seed: 0 });
    await press("task-speed");
    await type("speed-batch", "4");
    await type("speed-depth", "1024");
    expect(await started(ipc)).toEqual({ task: "speed", model, prompt: 512, generate: 64, repeat: 5, batch: 4, depth: 1024 });
    await press("task-memory");
    expect(await started(ipc)).toEqual({ task: "memory", model, ctx: null });
    await press("task-energy");
    expect(await started(ipc)).toEqual({ task: "energy", model });
    await press("task-perplexity");
    expect((screen.getByTestId("bench-start") as HTMLButtonElement).disabled).toBe(true);
    await press("perplexity-pick");
    await waitFor(() => expect(screen.getByTestId("perplexity-text").textContent).toBe("/home/me/texts/walden.txt"));
    expect(await started(ipc)).toEqual({ task: "perplexity", model, text: "/home/me/texts/walden.txt", ctx: null });
  });

  it("is chosen by the arrow keys too", async () => {
    await openBenchmarks();
    screen.getByTestId("task-mmlu").focus();
    await key("ArrowRight");
    await waitFor(() => expect(document.activeElement).toBe(screen.getByTestId("task-humaneval")));
    await key("ArrowLeft");
    await key("ArrowLeft");
    await waitFor(() => expect(document.activeElement).toBe(screen.getByTestId("task-perplexity")));
  });

  it("that cannot start says why", async () => {
    const ipc = await openBenchmarks();
    ipc.startBench = () => Promise.reject({ code: "failed", message: "shots need solved examples, and the starter pack has none" });
    await press("bench-start");
    const error = await screen.findByTestId("bench-error");
    expect(error.textContent).toContain("Shots need solved examples, and the starter pack has none.");
  });
});

describe("what all runs say together", () => {
  it("is drawn once there are runs", async () => {
    const ipc = await openBenchmarks();
    expect(screen.getByTestId("stored-charts").textContent).toContain("Nothing to draw yet");
    const [model] = fakeModels();
    if (model === undefined) throw new Error("no model");
    ipc.runs.push(fakeRun(7, "mmlu", model, 0, null));
    await started(ipc);
    await waitFor(() => expect(screen.getAllByTestId("chart")).toHaveLength(2));
  });
});

describe("the source of MMLU's questions", () => {
  it("says why there are no shots, and takes the official folder", async () => {
    await openWindow();
    const line = await screen.findByTestId("mmlu-source");
    expect(line.textContent).toContain("MMLU, 0-shot: the starter pack has no solved examples.");
    expect(line.textContent).toContain("fetch it (cais/mmlu)");
    await press("mmlu-folder");
    await waitFor(() => expect(screen.getByTestId("mmlu-source").dataset["origin"]).toBe("own"));
    expect(screen.getByTestId("mmlu-source").textContent).toContain("5-shot: 3 subjects have 3 or 4 solved examples");
    await press("mmlu-remove");
    await waitFor(() => expect(screen.getByTestId("mmlu-source").dataset["origin"]).toBe("starter"));
  });

  it("can be fetched, and is used when the download is done", async () => {
    const ipc = await openWindow();
    await press("mmlu-fetch");
    await waitFor(() => expect(ipc.jobs[0]?.title).toContain("cais/mmlu"));
    await waitFor(() => expect(screen.getByTestId("mmlu-source").dataset["origin"]).toBe("hub"));
    expect(screen.queryByTestId("mmlu-fetch")).toBeNull();
  });

  it("can be dropped; what is not MMLU can be imported as a model instead", async () => {
    const ipc = new FakeIpc();
    let drop: (event: FileDrop) => void = () => {};
    ipc.onFileDrop = async (onDrop) => {
      drop = onDrop;
      return () => {};
    };
    await openOn(ipc);
    await screen.findByTestId("mmlu-source");
    drop({ kind: "over" });
    expect((await screen.findByTestId("import-drop")).textContent).toContain("MMLU folder");
    drop({ kind: "drop", paths: ["/data/mmlu.tar"] });
    await waitFor(() => expect(screen.getByTestId("mmlu-source").dataset["origin"]).toBe("own"));
    drop({ kind: "drop", paths: ["/data/some-model"] });
    expect((await screen.findByTestId("mmlu-error")).textContent).toContain("looked for test/*_test.csv");
    await press("mmlu-import-instead");
    await screen.findByTestId("model-card-some-model");
    drop({ kind: "drop", paths: ["/data/mmlu.zip"] });
    await screen.findByTestId("view-scorecard");
  });
});
