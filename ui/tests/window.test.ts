// What holds in every view: the keyboard, the palette, themes, results, diagnostics, and languages that Intl refuses.
import { fireEvent, screen, waitFor, within } from "@testing-library/svelte";
import { describe, expect, it } from "vitest";
import { FakeIpc } from "../src/ipc/fake";
import { fakeModels, fakeRun } from "../src/ipc/fakeData";
import { guardLocale, isUsable } from "../src/locale";
import { Identities } from "../src/state/identity.svelte";
import { key, openOn, openWindow, press, type } from "./window";

describe("the keyboard", () => {
  it("opens views by their number, and a new chat", async () => {
    await openWindow();
    for (const [number, view] of [["2", "models"], ["4", "benchmarks"], ["5", "finetune"], ["6", "speculate"], ["7", "results"], ["8", "settings"], ["1", "scorecard"]] as const) {
      await key(number, { ctrlKey: true });
      await screen.findByTestId(`view-${view}`);
    }
    await key("n", { metaKey: true });
    await screen.findByTestId("view-chat");
  });

  it("opens the palette, chooses and goes", async () => {
    await openWindow();
    await key("k", { ctrlKey: true });
    const input = await screen.findByTestId("palette-input");
    expect(document.activeElement).toBe(input);
    await type("palette-input", "go to");
    await key("ArrowDown");
    await key("ArrowDown");
    expect(screen.getByTestId("command-view-chat").getAttribute("aria-selected")).toBe("true");
    expect(input.getAttribute("aria-activedescendant")).toBe(screen.getByTestId("command-view-chat").id);
    await key("ArrowUp");
    await key("Enter");
    await screen.findByTestId("view-models");
    expect(screen.queryByTestId("palette")).toBeNull();
  });

  it("finds models by any of their words, and closes with Esc without doing anything", async () => {
    await openWindow();
    await screen.findByTestId("pick-starter");
    await key("k", { ctrlKey: true });
    await type("palette-input", "tiny chat");
    expect(screen.getByTestId("command-chat-with-tinyllama-1.1b-chat")).toBeTruthy();
    expect(screen.queryByTestId("command-view-models")).toBeNull();
    // The browser turns Esc into the dialog's cancel event.
    await fireEvent(screen.getByTestId("palette"), new Event("cancel", { cancelable: true }));
    await waitFor(() => expect(screen.queryByTestId("palette")).toBeNull());
    expect(screen.getByTestId("view-scorecard")).toBeTruthy();
  });

  it("does not cancel a job with Esc", async () => {
    const ipc = await openWindow({ paceMs: 20 });
    await screen.findByTestId("pick-starter");
    await press("run-scorecard");
    await screen.findByTestId("scorecard-progress");
    await key("Escape");
    expect(ipc.jobs[0]?.state).toBe("running");
  });
});

describe("settings", () => {
  it("paint the window and are kept", async () => {
    const ipc = await openWindow();
    await press("nav-settings");
    await press("theme-dark");
    expect(document.documentElement.dataset["theme"]).toBe("dark");
    await waitFor(() => expect(ipc.kept.theme).toBe("dark"));
    await type("settings-threads", "3");
    await waitFor(() => expect(ipc.kept).toEqual({ theme: "dark", threads: 3 }));
    await type("settings-threads", "0");
    expect(ipc.kept.threads).toBe(3);
    await type("settings-threads", "");
    await waitFor(() => expect(ipc.kept.threads).toBeNull());
    await press("theme-system");
    expect(document.documentElement.dataset["theme"]).toBe("light");
  });

  it("go back when they cannot be kept", async () => {
    const ipc = await openWindow();
    ipc.saveSettings = () => Promise.reject({ code: "failed", message: "The disk is full: 0 bytes free." });
    await press("nav-settings");
    await press("theme-dark");
    expect(await screen.findByText("The disk is full: 0 bytes free.")).toBeTruthy();
    expect(document.documentElement.dataset["theme"]).toBe("light");
  });

  it("give diagnostics without what was written in chats", async () => {
    const ipc = new FakeIpc();
    ipc.chats.push({ id: 1, title: "secret plan", models: ["starter"], options: {}, turns: [], updated_at: 0 });
    await openOn(ipc);
    let copied = "";
    Object.defineProperty(navigator, "clipboard", {
      configurable: true,
      value: { writeText: async (text: string) => void (copied = text) },
    });
    await press("nav-settings");
    await screen.findByText("AMD EPYC 9B45");
    await press("copy-diagnostics");
    await waitFor(() => expect(copied).toContain("AVX512-VNNI"));
    expect(copied).toContain("starter (llama, Q4_1)");
    expect(copied).not.toContain("secret");
  });
});

describe("results", () => {
  async function withRuns(): Promise<FakeIpc> {
    const ipc = new FakeIpc();
    const [first, second] = fakeModels();
    if (first === undefined || second === undefined) throw new Error("no models");
    ipc.runs = [
      fakeRun(1, "mmlu", first, 100, null),
      fakeRun(2, "speed", first, 200, null),
      fakeRun(3, "mmlu", second, 300, null),
    ];
    await openOn(ipc);
    await press("nav-results");
    await screen.findByTestId("run-1");
    return ipc;
  }

  it("are filtered by task, model and text", async () => {
    await withRuns();
    await fireEvent.change(screen.getByTestId("results-task"), { target: { value: "mmlu" } });
    await waitFor(() => expect(screen.queryByTestId("run-2")).toBeNull());
    await fireEvent.change(screen.getByTestId("results-model"), { target: { value: "starter" } });
    await waitFor(() => expect(screen.queryByTestId("run-3")).toBeNull());
    expect(screen.getByTestId("run-1")).toBeTruthy();
    await type("results-search", "no such run");
    await waitFor(() => expect(screen.queryByTestId("run-1")).toBeNull());
  });

  it("show what reproduces them, and the questions that went wrong", async () => {
    await withRuns();
    await press("run-1");
    const details = await screen.findByTestId("run-details");
    expect(within(details).getByTestId("run-facts").textContent).toContain("Task version");
    expect(within(details).getByTestId("run-command").textContent).toBe("billion bench mmlu --model starter");
    expect(screen.getAllByTestId("question")).toHaveLength(20);
    await press("questions-wrong");
    const wrong = screen.getAllByTestId("question");
    expect(wrong.every((question) => question.dataset["right"] === "false")).toBe(true);
  });

  it("list the questions that were right, and those of one subject", async () => {
    await withRuns();
    await press("run-1");
    await press("questions-right");
    expect(screen.getAllByTestId("question").every((question) => question.dataset["right"] === "true")).toBe(true);
    await fireEvent.change(screen.getByTestId("questions-subject"), { target: { value: "world_religions" } });
    await waitFor(() =>
      expect(screen.getAllByTestId("question").every((question) => question.textContent?.includes("world religions"))).toBe(true),
    );
    expect(screen.getByTestId("chart").dataset["form"]).toBe("heat_map");
  });

  it("show programs as text, and filter them by verdict", async () => {
    const ipc = await withRuns();
    const [model] = fakeModels();
    if (model === undefined) throw new Error("no model");
    ipc.runs.push(fakeRun(4, "humaneval", model, 400, null));
    await press("nav-results");
    await press("nav-scorecard");
    await press("nav-results");
    await press("run-4");
    const code = (await screen.findAllByTestId("completion-code"))[0];
    expect(code?.textContent).toContain("<script>alert(1)</script>");
    expect(code?.querySelector("script")).toBeNull();
    expect(screen.getAllByTestId("completion")).toHaveLength(10);
    await press("programs-later");
    expect(screen.getAllByTestId("completion")[0]?.textContent).toContain("HumanEval/10");
    await fireEvent.change(screen.getByTestId("completions-verdict"), { target: { value: "syntax_error" } });
    await waitFor(() =>
      expect(screen.getAllByTestId("completion").every((one) => one.dataset["verdict"] === "syntax_error")).toBe(true),
    );
    expect(screen.getAllByTestId("completion")[0]?.textContent).toContain("SyntaxError: invalid syntax");
    await fireEvent.change(screen.getByTestId("completions-verdict"), { target: { value: "failed" } });
    await waitFor(() =>
      expect(screen.getAllByTestId("completion").some((one) => one.dataset["verdict"] === "passed")).toBe(false),
    );
  });

  it("are compared two at a time, in words and question by question", async () => {
    await withRuns();
    const compare = (): HTMLButtonElement => screen.getByTestId("compare-runs") as HTMLButtonElement;
    await press("pick-run-1");
    expect(compare().disabled).toBe(true);
    await press("pick-run-2");
    await press("pick-run-3");
    // A third takes the place of the first.
    expect((screen.getByTestId("pick-run-1") as HTMLInputElement).checked).toBe(false);
    await press("pick-run-2");
    await press("pick-run-1");
    await press("compare-runs");
    const comparison = await screen.findByTestId("comparison");
    expect(within(comparison).getByTestId("comparison-verdict").textContent).toBe("No real difference between the two (p = 0.41).");
    expect(within(comparison).getByTestId("comparison-rows").textContent).toContain("4.0 points lower");
    const cells = [...within(comparison).getByTestId("comparison-counts").querySelectorAll("td")].map((cell) => Number(cell.textContent));
    expect(cells.reduce((sum, cell) => sum + cell, 0)).toBe(100);
    await fireEvent.change(screen.getByTestId("flips-side"), { target: { value: "b" } });
    await waitFor(() => {
      const flips = screen.getAllByTestId("flip");
      expect(flips).toHaveLength(Math.min(20, cells[2] ?? 0));
      expect(flips.every((flip) => flip.dataset["right"] === "b")).toBe(true);
    });
    await press("comparison-close");
    expect(screen.queryByTestId("comparison")).toBeNull();
  });

  it("are exported to where the person says, or not at all", async () => {
    const ipc = await withRuns();
    await press("run-1");
    await screen.findByTestId("run-details");
    await press("export");
    expect(document.activeElement).toBe(screen.getByTestId("export-html"));
    await key("ArrowDown");
    expect(document.activeElement).toBe(screen.getByTestId("export-csv"));
    await press("export-csv");
    expect((await screen.findByTestId("export-written")).textContent).toContain("/home/me/billion-run-1.csv (184\u202fkB)");
    expect(ipc.exported).toEqual([{ scorecard: null, runs: [1], format: "csv", out: "/home/me/billion-run-1.csv" }]);
    ipc.exportFolder = null;
    await press("export");
    await press("export-html");
    await waitFor(() => expect(screen.queryByTestId("export-written")).toBeNull());
    expect(ipc.exported).toHaveLength(1);
    ipc.exportFolder = "/root";
    ipc.exportResults = () => Promise.reject({ code: "failed", message: "/root cannot be written: permission denied" });
    await press("export");
    await press("export-png");
    expect((await screen.findByTestId("export-error")).textContent).toContain("permission denied.");
  });

  it("are deleted only when asked twice", async () => {
    const ipc = await withRuns();
    await press("run-2");
    await press("run-delete");
    expect(ipc.runs).toHaveLength(3);
    await press("confirm-delete");
    await waitFor(() => expect(screen.queryByTestId("run-2")).toBeNull());
    expect(ipc.runs).toHaveLength(2);
  });
});

describe("the locale guard", () => {
  function navigatorWith(language: string, languages: string[]): Navigator {
    return { language, languages } as unknown as Navigator;
  }

  it("replaces a language that Intl refuses", () => {
    expect(isUsable("C")).toBe(false);
    const target = navigatorWith("C", ["C"]);
    guardLocale(target);
    expect(target.language).toBe("en-US");
    expect(() => new Intl.DateTimeFormat(target.language)).not.toThrow();
  });

  it("keeps the languages that work", () => {
    const target = navigatorWith("de-DE", ["de-DE", "en"]);
    guardLocale(target);
    expect(target.language).toBe("de-DE");
    const mixed = navigatorWith("C", ["C", "fr"]);
    guardLocale(mixed);
    expect(mixed.language).toBe("fr");
  });
});

describe("the look of a model", () => {
  it("stays the same over restarts, whatever comes later", async () => {
    const program = new FakeIpc({ models: [] });
    program.modelOrder = ["a", "b"];
    const first = new Identities(program);
    await first.know(["b", "a"]);
    const look = first.of("b");
    const second = new Identities(program);
    await second.know(["c", "b", "a"]);
    expect(second.of("b")).toEqual(look);
    expect(second.of("c")).not.toEqual(look);
    expect(second.of("a")).not.toEqual(second.of("c"));
  });

  it("tells sixty-four models apart, also where the program cannot say their order", async () => {
    const many = new Identities({ identities: () => Promise.reject(new Error("locked")) });
    const ids = Array.from({ length: 64 }, (_, at) => `m${at}`);
    await many.know(ids);
    expect(new Set(ids.map((id) => JSON.stringify(many.of(id)))).size).toBe(64);
  });
});
