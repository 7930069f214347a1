// Models: cards, import by button and by drop, errors, info, removal.
import { screen, waitFor, within } from "@testing-library/svelte";
import { describe, expect, it } from "vitest";
import { openWindow, press } from "./window";

describe("model cards", () => {
  it("say what a model is, and in words whether it runs here", async () => {
    await openWindow();
    await press("nav-models");
    const card = await screen.findByTestId("model-card-llama-3.2-1b");
    expect(within(card).getByTestId("fit").textContent).toContain("tight: needs 2.1 GB, 2.4 GB free");
    for (const part of ["1.24B", "Q8_0", "1.32\u202fGB", "Llama 3.2 Community", "Meta", "131,072"]) {
      expect(card.textContent).toContain(part);
    }
    expect(screen.getByTestId("disk-usage").textContent).toContain("5 models, 4.72\u202fGB on disk");
  });

  it("show why a file cannot be used, and offer no use of it", async () => {
    await openWindow();
    await press("nav-models");
    const card = await screen.findByTestId("model-card-broken");
    expect(within(card).getByTestId("model-problem").textContent).toContain("ends at byte 1,024");
    expect(within(card).queryByTestId("model-chat-broken")).toBeNull();
  });

  it("tell the hash and the template in the info panel", async () => {
    await openWindow();
    await press("nav-models");
    await press("model-info-starter");
    expect((await screen.findByTestId("model-sha256")).textContent).toMatch(/^[0-9a-f]{64}$/);
    expect(screen.getByTestId("model-info").textContent).toContain("<|im_start|>");
    await press("dialog-close");
    await waitFor(() => expect(screen.queryByTestId("model-info")).toBeNull());
  });
});

describe("import", () => {
  it("takes the file that was chosen", async () => {
    await openWindow();
    await press("nav-models");
    await press("import-file");
    expect(await screen.findByTestId("model-card-new-model")).toBeTruthy();
  });

  it("changes nothing when the dialog is closed", async () => {
    const ipc = await openWindow();
    ipc.pickedFile = null;
    await press("nav-models");
    await press("import-file");
    expect(ipc.models.filter((model) => model.installed)).toHaveLength(5);
    expect(screen.queryByTestId("import-error")).toBeNull();
  });

  it("takes files dropped on any view, shows where they go, and goes there", async () => {
    const ipc = await openWindow();
    await waitFor(() => {
      ipc.drag({ kind: "over" });
      expect(screen.getByTestId("import-drop")).toBeTruthy();
    });
    ipc.drag({ kind: "drop", paths: ["/tmp/one.gguf", "/tmp/two.gguf"] });
    await waitFor(() => expect(screen.queryByTestId("import-drop")).toBeNull());
    expect(await screen.findByTestId("model-card-one")).toBeTruthy();
    expect(await screen.findByTestId("model-card-two")).toBeTruthy();
  });

  it("says what is wrong with a file, lets it be copied, and tries again", async () => {
    const ipc = await openWindow();
    await press("nav-models");
    ipc.importError = { code: "failed", message: "cut.gguf ends at byte 4,096 of 98,300,000. Get it again." };
    ipc.pickedFile = "/tmp/cut.gguf";
    await press("import-file");
    const note = await screen.findByTestId("import-error");
    expect(note.getAttribute("role")).toBe("alert");
    expect(note.textContent).toContain("/tmp/cut.gguf");
    expect(note.textContent).toContain("ends at byte 4,096 of 98,300,000");
    expect(within(note).getByLabelText("Copy this error")).toBeTruthy();
    within(note).getByText("Try again").click();
    await waitFor(() => expect(screen.queryByTestId("import-error")).toBeNull());
    expect(await screen.findByTestId("model-card-cut")).toBeTruthy();
  });
});

describe("removal", () => {
  it("asks first", async () => {
    const ipc = await openWindow();
    await press("nav-models");
    await press("model-remove-pythia-1b");
    expect(ipc.models.some((model) => model.id === "pythia-1b")).toBe(true);
    await press("confirm-remove");
    await waitFor(() => expect(screen.queryByTestId("model-card-pythia-1b")).toBeNull());
    expect(ipc.models.some((model) => model.id === "pythia-1b")).toBe(false);
  });
});
