// From the first press to the stored scorecard; and the job tray that goes with it.
import { screen, waitFor, within } from "@testing-library/svelte";
import { describe, expect, it } from "vitest";
import { FakeIpc } from "../src/ipc/fake";
import { openOn, openWindow, press, type } from "./window";

describe("the first start", () => {
  it("needs one press for the scorecard of the starter model", async () => {
    const ipc = await openWindow();
    expect(((await screen.findByTestId("pick-starter")) as HTMLInputElement).checked).toBe(true);
    expect((screen.getByTestId("size-quick") as HTMLInputElement).checked).toBe(true);
    expect(screen.getByTestId("scorecard-empty")).toBeTruthy();
    await press("run-scorecard");
    expect(ipc.cards[0]?.request).toEqual({ models: ["starter"], size: "quick", stop_at_half_width: null });
    await screen.findByTestId("scorecard-progress");
    await waitFor(() => expect(screen.getByTestId("scorecard-result").dataset["complete"]).toBe("true"), { timeout: 15_000 });
    const row = screen.getByTestId("scorecard-row-starter");
    expect(within(row).getByTestId("cell-mmlu").textContent).toContain("31.0 %");
    expect(within(row).getByTestId("cell-mmlu").textContent).toContain("22.2–39.8");
    expect(within(row).getByTestId("cell-peak_memory").textContent).toContain("231 MB");
    expect(screen.getByTestId("verdicts").textContent).toContain("no real difference");
    expect(screen.getAllByTestId("chart").length).toBeGreaterThan(0);
    expect(screen.getByTestId("scorecard-command").textContent).toBe("billion scorecard --models starter --quick");
    expect(screen.queryByTestId("scorecard-progress")).toBeNull();
  });

  it("tells the time and the uncertainty of each size before the start", async () => {
    await openWindow();
    await waitFor(() => expect(screen.getByTestId("forecast-quick").textContent).toBe("about 35\u202fs"));
    expect(screen.getByTestId("forecast-full").textContent).toBe("about 49\u202fmin");
    const quick = screen.getByTestId("size-quick").closest("label");
    expect(quick?.textContent).toContain("±\u202f9 points");
    expect(quick?.textContent).toContain("100 questions, 0\u2011shot");
    expect(quick?.textContent).toContain("20 HumanEval problems");
    await press("pick-tinyllama-1.1b-chat");
    await waitFor(() => expect(screen.getByTestId("forecast-quick").textContent).toBe("about 1\u202fmin"));
  });

  it("forecasts fewer questions for one that stops early", async () => {
    await openWindow();
    await waitFor(() => expect(screen.getByTestId("forecast-full").textContent).toBe("about 49\u202fmin"));
    await type("stop-early", "5");
    await waitFor(() => expect(screen.getByTestId("forecast-full").textContent).toBe("about 1\u202fmin"));
    expect(screen.getByTestId("size-full").closest("label")?.textContent).toContain("324 questions");
  });

  it("forecasts anew once something was measured", async () => {
    const ipc = await openWindow();
    await screen.findByTestId("forecast-quick");
    const foresee = ipc.forecastScorecards.bind(ipc);
    ipc.forecastScorecards = async (models, stop) =>
      (await foresee(models, stop)).map((forecast) => ({ ...forecast, seconds: 12, basis: "from the speed measured on this machine" }));
    await press("run-scorecard");
    await waitFor(() => expect(screen.getByTestId("scorecard-result").dataset["complete"]).toBe("true"), { timeout: 15_000 });
    await waitFor(() => expect(screen.getByTestId("forecast-quick").textContent).toBe("about 10\u202fs"));
    expect(screen.getByText(/from the speed measured on this machine/)).toBeTruthy();
  });

  it("says what to do when there is no model", async () => {
    await openWindow({ models: [] });
    expect(await screen.findByText("No model to measure")).toBeTruthy();
    expect(screen.queryByTestId("run-scorecard")).toBeNull();
  });
});

describe("several models", () => {
  it("are measured in the order of the list, and compared in words", async () => {
    const ipc = await openWindow();
    await press("pick-llama-3.2-1b");
    await press("pick-tinyllama-1.1b-chat");
    await press("size-standard");
    await press("run-scorecard");
    expect(ipc.cards[0]?.request).toEqual({ models: ["starter", "tinyllama-1.1b-chat", "llama-3.2-1b"], size: "standard", stop_at_half_width: null });
    await waitFor(() => expect(screen.getByTestId("verdicts").textContent).toContain("is better than"), { timeout: 15_000 });
  }, 20_000);
});

describe("a scorecard's table", () => {
  async function full(): Promise<FakeIpc> {
    const ipc = new FakeIpc();
    ipc.cards.push({ id: 1, createdAt: 100, request: { models: ["tinyllama-1.1b-chat", "llama-3.2-1b", "pythia-1b"], size: "standard" }, stages: 12 });
    await openOn(ipc);
    return ipc;
  }

  it("says whether published scores agree, and why a figure is missing", async () => {
    await full();
    const badges = await screen.findAllByTestId("badge-mmlu");
    expect(badges.map((badge) => badge.dataset["matches"])).toEqual(["true", "false", undefined]);
    expect(badges[0]?.textContent).toContain("✓ MMLU: matches published 25.9 % (5-shot, TinyLlama EVAL.md)");
    const energy = within(screen.getByTestId("scorecard-row-pythia-1b")).getByTestId("cell-energy");
    expect(energy.textContent?.trim()).toBe("unavailable");
    expect(energy.querySelector("[title]")?.getAttribute("title")).toContain("sudo chmod");
    const measured = within(screen.getByTestId("scorecard-row-llama-3.2-1b"));
    expect(measured.getByTestId("cell-energy").textContent).toContain("1.12 J/token");
    expect(measured.getByTestId("cell-humaneval").textContent).toContain("27.0 %");
    expect(measured.getByTestId("cell-correct_per_wh").textContent).toContain("per Wh");
  });

  it("is exported as a report", async () => {
    const ipc = await full();
    await press("export");
    await press("export-html");
    await screen.findByTestId("export-written");
    expect(ipc.exported).toEqual([{ scorecard: 1, runs: [], format: "html", out: "/home/me/billion-scorecard-1.html" }]);
  });
});

describe("stopping early", () => {
  it("is asked for in points", async () => {
    const ipc = await openWindow();
    await screen.findByTestId("pick-starter");
    await type("stop-early", "3");
    await press("run-scorecard");
    await waitFor(() => expect(ipc.cards[0]?.request.stop_at_half_width).toBe(0.03));
  });
});

describe("earlier scorecards", () => {
  it("can be shown again, and lead to their runs", async () => {
    const ipc = new FakeIpc();
    ipc.cards.push(
      { id: 1, createdAt: 100, request: { models: ["starter"], size: "quick" }, stages: 4 },
      { id: 2, createdAt: 200, request: { models: ["pythia-1b"], size: "full" }, stages: 1 },
    );
    await openOn(ipc);
    expect((await screen.findByTestId("scorecard-incomplete")).textContent).toContain("Not complete");
    expect(within(screen.getByTestId("scorecard-row-pythia-1b")).getByTestId("cell-decode").textContent).toContain("–");
    const select = screen.getByTestId("scorecard-select") as HTMLSelectElement;
    select.value = "1";
    select.dispatchEvent(new Event("change", { bubbles: true }));
    await screen.findByTestId("scorecard-row-starter");
  });
});

describe("a scorecard that was broken off", () => {
  it("goes on from where it is shown", async () => {
    const ipc = await openWindow({ paceMs: 10 });
    await screen.findByTestId("pick-starter");
    await press("run-scorecard");
    await screen.findByTestId("scorecard-progress");
    await press("scorecard-cancel");
    await press("scorecard-resume");
    ipc.paceMs = 0;
    await waitFor(() => expect(screen.getByTestId("scorecard-result").dataset["complete"]).toBe("true"), { timeout: 15_000 });
    expect(screen.queryByTestId("scorecard-incomplete")).toBeNull();
  });
});

describe("a scorecard that cannot start", () => {
  it("says why", async () => {
    const ipc = await openWindow();
    await screen.findByTestId("pick-starter");
    ipc.startScorecard = () => Promise.reject({ code: "busy", message: "Another Billion measures: wait for job 7." });
    await press("run-scorecard");
    expect((await screen.findByTestId("scorecard-error")).textContent).toContain("wait for job 7");
  });
});

describe("the job tray", () => {
  it("offers to resume what was interrupted, in every view", async () => {
    const ipc = new FakeIpc();
    ipc.cards.push({ id: 5, createdAt: 100, request: { models: ["starter"], size: "full" }, stages: 1 });
    ipc.jobs = [
      {
        id: 9,
        title: "Full scorecard of SmolLM2",
        state: "interrupted",
        step: "MMLU",
        done: 1,
        total: 3,
        eta_s: null,
        rate: null,
        pausable: true,
        error: null,
        started_at: 0,
        scorecard: 5,
        run: null,
        model: null,
      },
    ];
    await openOn(ipc);
    await press("nav-settings");
    const job = await screen.findByTestId("job-9");
    expect(job.textContent).toContain("Interrupted");
    await press("job-resume-9");
    await waitFor(() => expect(screen.getByTestId("job-9").dataset["state"]).toBe("running"));
    expect(screen.queryByTestId("job-resume-9")).toBeNull();
    await waitFor(() => expect(screen.getByTestId("job-9").dataset["state"]).toBe("done"), { timeout: 15_000 });
    await press("job-view-9");
    await screen.findByTestId("view-scorecard");
    await waitFor(() => expect(screen.getByTestId("scorecard-result").dataset["complete"]).toBe("true"));
    await press("job-dismiss-9");
    await waitFor(() => expect(screen.queryByTestId("job-9")).toBeNull());
    expect(ipc.jobs).toEqual([]);
  });

  it("tells the rate, pauses and goes on", async () => {
    await openWindow({ paceMs: 20 });
    await screen.findByTestId("pick-starter");
    await press("run-scorecard");
    const job = await waitFor(() => screen.getByTestId(/^job-\d+$/));
    const id = job.dataset["testid"]?.replace("job-", "");
    expect((await screen.findByTestId(`job-rate-${id}`)).textContent).toContain("4.76\u202fquestions/s");
    await press(`job-pause-${id}`);
    await waitFor(() => expect(screen.getByTestId(`job-${id}`).dataset["state"]).toBe("paused"));
    expect(screen.queryByTestId(`job-pause-${id}`)).toBeNull();
    await press(`job-resume-${id}`);
    await waitFor(() => expect(screen.getByTestId(`job-${id}`).dataset["state"]).toBe("done"), { timeout: 15_000 });
  });

  it("queues a second scorecard while one is made", async () => {
    const ipc = await openWindow({ paceMs: 20 });
    await screen.findByTestId("pick-starter");
    await press("run-scorecard");
    await waitFor(() => expect(screen.getByTestId("run-scorecard").textContent).toContain("Measure next"));
    await press("run-scorecard");
    await waitFor(() => expect(ipc.jobs.map((job) => job.state)).toEqual(["queued", "running"]));
    await waitFor(() => expect(screen.getByTestId("scorecard-progress").textContent).toContain("1 more scorecard waits"));
    await waitFor(() => expect(ipc.jobs.map((job) => job.state)).toEqual(["done", "done"]), { timeout: 15_000 });
  });

  it("offers no pause where stopping would lose the work", async () => {
    const ipc = new FakeIpc();
    ipc.jobs = [
      {
        id: 9,
        title: "Speed of SmolLM2",
        state: "running",
        step: "speed",
        done: 1,
        total: 3,
        eta_s: null,
        rate: null,
        pausable: false,
        error: null,
        started_at: 0,
        scorecard: null,
        run: null,
        model: null,
      },
    ];
    await openOn(ipc);
    await screen.findByTestId("job-cancel-9");
    expect(screen.queryByTestId("job-pause-9")).toBeNull();
    expect(screen.queryByTestId("job-rate-9")).toBeNull();
  });

  it("cancels, and says why a job failed", async () => {
    const ipc = await openWindow({ paceMs: 20 });
    await screen.findByTestId("pick-starter");
    await press("run-scorecard");
    const job = await waitFor(() => screen.getByTestId(/^job-\d+$/));
    const id = job.dataset["testid"]?.replace("job-", "");
    await press(`job-cancel-${id}`);
    await waitFor(() => expect(screen.getByTestId(`job-${id}`).dataset["state"]).toBe("cancelled"));
    expect(screen.getByTestId(`job-resume-${id}`)).toBeTruthy();
    ipc.resumeJob = () => Promise.reject({ code: "failed", message: "The model file is gone." });
    await press(`job-resume-${id}`);
    await waitFor(() => expect(screen.getByTestId("job-tray").textContent).toContain("The model file is gone."));
  });
});
