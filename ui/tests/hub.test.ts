// The hub in the window: cards of the catalogue, downloads, the three gates, search, guide, quantizing, checkpoints, token.
import { fireEvent, screen, waitFor, within } from "@testing-library/svelte";
import { beforeEach, describe, expect, it } from "vitest";
import { asApiError } from "../src/ipc";
import type { FakeIpc } from "../src/ipc/fake";
import { doing, fetched } from "../src/state/jobs.svelte";
import { openWindow, press, type } from "./window";

let ipc: FakeIpc;
beforeEach(async () => {
  ipc = await openWindow();
  await press("nav-models");
  await screen.findByTestId("model-card-tinyllama-1.1b");
});

const card = (id: string): HTMLElement => screen.getByTestId(`model-card-${id}`);
const cards = (): string[] => screen.getAllByTestId(/^model-card-/).map((found) => found.dataset["testid"]?.slice("model-card-".length) ?? "");

describe("cards of the catalogue", () => {
  it("stand after those on this machine, and say what a person needs to choose", () => {
    expect(cards().slice(0, 5)).toEqual(["starter", "tinyllama-1.1b-chat", "llama-3.2-1b", "pythia-1b", "broken"]);
    const text = card("tinyllama-1.1b").textContent;
    for (const part of ["about 2.20\u202fGB", "Apache-2.0", "TinyLlama project", "2,048", "3T tokens: 2,727 a parameter, 136 times Chinchilla's 20", "Drafts for Llama 2 7B", "huggingface.co/TinyLlama/"]) {
      expect(text).toContain(part);
    }
    expect(within(card("llama-3.2-1b-instruct")).getByTestId("gated")).toBeTruthy();
    expect(within(card("tinyllama-1.1b")).queryByTestId("gated")).toBeNull();
  });

  it("can be narrowed to this machine, contenders or targets", async () => {
    await press("filter-here");
    expect(cards()).toHaveLength(5);
    await press("filter-contenders");
    expect(cards()).toContain("stablelm-2-1.6b");
    expect(cards()).not.toContain("stablelm-2-12b");
    await press("filter-targets");
    expect(cards()).toContain("stablelm-2-12b");
    expect(cards()).toContain("llama-2-7b");
    expect(cards()).not.toContain("tinyllama-1.1b");
  });

  it("tell what a fit is the sum of, and load what is too big all the same", () => {
    expect(within(card("llama-3.1-8b")).getByTestId("fit-sum").textContent).toMatch(/16\.1 GB weights \+ .* = 1\d\.\d GB/);
    expect(screen.getByTestId("model-chat-pythia-1b").textContent).toContain("Load anyway");
    expect(screen.getByTestId("model-chat-starter").textContent).toContain("Chat");
  });
});

describe("a download", () => {
  it("shows bytes, rate and time left in the card and the tray, pauses, goes on, and is a model then", async () => {
    ipc.holdAt = 0.5;
    await press("download-start-tinyllama-1.1b");
    const figures = await screen.findByTestId("download-figures-tinyllama-1.1b");
    await waitFor(() => expect(figures.textContent?.replace(/\s+/g, " ")).toContain("1.10 GB of 2.20 GB · 31.2 MB/s · 35 s left"));
    const job = ipc.jobs[0]?.id ?? 0;
    expect(screen.getByTestId(`job-bytes-${job}`).textContent).toBe("1.10\u202fGB of 2.20\u202fGB");
    expect(screen.getByTestId(`job-rate-${job}`).textContent).toContain("31.2\u202fMB/s");

    await press("download-pause-tinyllama-1.1b");
    await waitFor(() => expect(screen.getByTestId("download-tinyllama-1.1b").dataset["state"]).toBe("paused"));
    expect(figures.textContent).toContain("Paused");
    ipc.holdAt = 1;
    await press("download-resume-tinyllama-1.1b");
    await waitFor(() => expect(screen.queryByTestId("download-tinyllama-1.1b")).toBeNull());
    expect(await screen.findByTestId("model-chat-tinyllama-1.1b")).toBeTruthy();
    expect(screen.getByTestId(`job-use-${job}`)).toBeTruthy();
  });

  it("runs beside another, and leaves nothing when cancelled", async () => {
    ipc.holdAt = 0.2;
    await press("download-start-tinyllama-1.1b");
    await press("download-start-pythia-70m");
    await waitFor(() => expect(ipc.jobs.filter((job) => job.state === "running")).toHaveLength(2));
    await press("download-cancel-tinyllama-1.1b");
    expect(await screen.findByTestId("download-start-tinyllama-1.1b")).toBeTruthy();
    expect(screen.getByTestId("download-pythia-70m").dataset["state"]).toBe("running");
  });

  it("that is gated takes a token on the spot and goes on with it", async () => {
    await press("download-start-llama-3.2-1b-instruct");
    const note = await screen.findByTestId("download-error");
    expect(note.dataset["code"]).toBe("needs_token");
    const link = within(note).getByTestId("error-link");
    expect(link.dataset["url"]).toBe("https://huggingface.co/settings/tokens");
    within(link).getByText("huggingface.co/settings/tokens").click();
    expect(ipc.opened).toEqual(["https://huggingface.co/settings/tokens"]);
    await type("gate-token", "nonsense");
    await press("gate-token-save");
    expect((await screen.findByTestId("gate-token-error")).textContent).toContain("does not accept this token");
    await type("gate-token", "hf_right");
    await press("gate-token-save");
    expect(await screen.findByTestId("model-chat-llama-3.2-1b-instruct")).toBeTruthy();
    expect(ipc.token).toBe("hf_right");
  });

  it("names the other two gates, each with the page that mends it", async () => {
    ipc.token = "hf_unaccepted";
    await press("download-start-llama-3.2-1b-instruct");
    const note = await screen.findByTestId("download-error");
    expect(note.textContent).toContain("licence is not accepted");
    expect(within(note).getByTestId("error-link").dataset["url"]).toBe("https://huggingface.co/meta-llama/Llama-3.2-1B-Instruct");
    ipc.token = "hf_denied";
    await press("download-again-llama-3.2-1b-instruct");
    await waitFor(() => expect(screen.getByTestId("download-error").dataset["code"]).toBe("access_denied"));
    expect(screen.getByTestId("gate-token")).toBeTruthy();
    ipc.token = "hf_right";
    await press("download-again-llama-3.2-1b-instruct");
    expect(await screen.findByTestId("model-chat-llama-3.2-1b-instruct")).toBeTruthy();
  });

  it("of all contenders says sizes and free disk before it starts", async () => {
    await press("download-contenders");
    const size = await screen.findByTestId("contenders-size");
    expect(size.textContent).toContain("About 3.29\u202fGB to download; 64.0\u202fGB are free");
    expect(ipc.jobs).toHaveLength(0);
    await press("contenders-start");
    expect(await screen.findByTestId("model-chat-stablelm-2-1.6b")).toBeTruthy();
  });

  it("of all contenders does not start when the disk is too small", async () => {
    ipc.freeDiskBytes = 1e9;
    await press("download-contenders");
    await screen.findByTestId("contenders-size");
    expect(screen.getByTestId("contenders").textContent).toContain("2.29\u202fGB are missing");
    expect((screen.getByTestId("contenders-start") as HTMLButtonElement).disabled).toBe(true);
  });
});

describe("search", () => {
  it("finds by keyword, says what cannot run and why, and lists files to fetch", async () => {
    await type("hub-search", "tiny");
    await press("hub-search-go");
    const mamba = await screen.findByTestId("found-state-spaces/tinymamba-1b");
    expect(mamba.textContent).toContain("this one is a mamba");
    await press("look-up-TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF");
    const file = "hf:TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF/tinyllama-1.1b-chat-v1.0.Q4_0.gguf";
    await press(`download-start-${file}`);
    await waitFor(() => expect(screen.getByTestId("hub-found").textContent).toContain("on this machine"));
  });

  it("takes a pasted address, and says why one is nothing", async () => {
    await type("hub-search", "https://huggingface.co/TinyLlama/TinyLlama-1.1B-step-50K-105b");
    await press("hub-search-go");
    expect((await screen.findByTestId("hub-found")).textContent).toContain("safetensors, F32");
    await type("hub-search", "nobody/nothing");
    await press("hub-search-go");
    expect((await screen.findByTestId("hub-search-error")).textContent).toContain("check the name");
    await press("hub-search-clear");
    expect(screen.queryByTestId("hub-search-error")).toBeNull();
  });
});

describe("what to choose", () => {
  it("is told in a table whose column of this machine is marked", async () => {
    await press("models-page-runs");
    const table = await screen.findByTestId("runs-here");
    expect(table.querySelectorAll("th[data-here=true]")).toHaveLength(1);
    expect(within(table).getAllByTestId("fit").length).toBe(table.querySelectorAll("tbody tr").length * 4);
  });

  it("is told in short answers that end in a download or a chat, and say what they rest on", async () => {
    await press("models-page-guide");
    const guide = await screen.findByTestId("guide");
    expect(guide.textContent).toContain("Measured: MMLU 31.0 %");
    expect(guide.textContent).toContain("not measured here yet");
    await press("download-start-stablelm-2-1.6b");
    await press("guide-chat-stablelm-2-1.6b");
    expect(await screen.findByTestId("view-chat")).toBeTruthy();
  });
});

describe("quantizing", () => {
  it("is offered for weights of 16 bits only, and gives a model", async () => {
    expect(screen.queryByTestId("model-quantize-starter")).toBeNull();
    await press("model-quantize-pythia-1b");
    await press("quant-q6_k");
    await press("quantize-start");
    await waitFor(() => expect(ipc.converted).toEqual([{ model: "pythia-1b", quant: "q6_k", out: null }]));
    const made = await screen.findByTestId("model-card-pythia-1b:q6_k");
    expect(made.textContent).toContain("quantized here");
  });
});

describe("checkpoints", () => {
  it("are chosen with a slider and fetched by step", async () => {
    const slider = (await screen.findByTestId("checkpoint-slider-pythia-1b")) as HTMLInputElement;
    await fireEvent.input(slider, { target: { value: "11" } });
    expect(slider.getAttribute("aria-valuetext")).toContain("step 1,000");
    await press("download-start-pythia-1b@step1000");
    expect(await screen.findByTestId("checkpoint-complete")).toBeTruthy();
    expect(await screen.findByTestId("model-card-pythia-1b@step1000")).toBeTruthy();
  });

  it("make a time-lapse: steps and size first, then charts, and what each step wrote", async () => {
    await press("lapse-pythia-1b");
    await waitFor(() => expect(screen.getByTestId("lapse-size").textContent).toContain("11 checkpoints"));
    expect(screen.getByTestId("lapse-size").textContent).toContain("about 22.3\u202fGB to download in all");
    await press("lapse-few");
    await press("lapse-step-512");
    await fireEvent.input(screen.getByTestId("lapse-slider"), { target: { value: "4" } });
    await press("lapse-add");
    expect(screen.getByTestId("lapse-size").textContent).toContain("4 checkpoints");
    await press("lapse-start");
    await waitFor(() => expect(screen.getByTestId("lapses").textContent).toContain("4 of 4"));
    expect(screen.getByTestId("lapse-continuation").textContent).toContain("Step 143,000");
    await fireEvent.input(screen.getByTestId("lapse-step"), { target: { value: "0" } });
    expect(screen.getByTestId("lapse-continuation").textContent).toContain("the the of the");
    expect(screen.getAllByTestId("chart")).toHaveLength(2);
    // Steps are counted, not measured.
    expect(screen.getAllByTestId("chart-table")[0]?.textContent).toContain("143,000");
    expect(screen.getAllByTestId("chart-table")[0]?.textContent).not.toContain("8.00");
    expect(screen.getAllByTestId("chart-table")[0]?.textContent).toContain("step 0: untrained");
  });
});

describe("the token in Settings", () => {
  it("is checked before it is kept, says whose it is and where it lies, and can be forgotten", async () => {
    await press("nav-settings");
    await waitFor(() => expect(screen.getByTestId("hub-token-state").textContent).toBe("none"));
    await type("hub-token", "hf_ofAda7x3Qf");
    await press("hub-token-save");
    await waitFor(() => expect(screen.getByTestId("hub-token-state").textContent).toContain("…x3Qf, in the token file"));
    expect(screen.getByTestId("hub-token-state").textContent).toContain("ada's");
    expect(screen.getByTestId("hub-note").textContent).toContain("no keychain");
    expect((screen.getByTestId("hub-token") as HTMLInputElement).value).toBe("");
    expect(document.body.textContent).not.toContain("hf_ofAda7");
    await press("hub-token-forget");
    expect(ipc.token).not.toBeNull();
    await press("hub-token-forget-sure");
    await waitFor(() => expect(screen.getByTestId("hub-token-state").textContent).toBe("none"));
  });
});

describe("errors and jobs", () => {
  it("keep the gate's code and its page", () => {
    expect(asApiError({ code: "needs_token", message: "make one", link: "https://huggingface.co/settings/tokens" })).toEqual({
      code: "needs_token",
      message: "make one",
      link: "https://huggingface.co/settings/tokens",
    });
    expect(asApiError({ code: "new_code", message: "?" })).toEqual({ code: "failed", message: "?" });
  });

  it("count bytes only of what moves bytes", () => {
    const job = ipc.newJob({ title: "MMLU", total: 14_042 });
    expect(fetched(job)).toBeNull();
    expect(fetched({ ...job, rate: { per_s: 4.76, unit: "questions" } })).toBeNull();
    expect(fetched({ ...job, model: "pythia-1b", done: 512_000, total: 2_200_000 })).toEqual({ done: 512e6, total: 2.2e9 });
    expect(fetched({ ...job, model: "pythia-1b:q4_0", pausable: false })).toBeNull();
  });

  it("say a step only where it tells more than the figures", () => {
    const job = ipc.newJob({ title: "Download", total: 1 });
    expect(doing({ ...job, step: "512 MB of 2.2 GB" })).toBe("");
    expect(doing({ ...job, step: "512\u202fMB of 2.2\u202fGB" })).toBe("");
    expect(doing({ ...job, step: "checks model.safetensors" })).toBe("checks model.safetensors");
    expect(doing({ ...job, step: "MMLU of 2 models" })).toBe("MMLU of 2 models");
  });
});
