// A mistake in one view leaves the window, its jobs and its other views standing.
import { screen } from "@testing-library/svelte";
import { expect, it, vi } from "vitest";
import { FakeIpc } from "../src/ipc/fake";
import { openOn, press } from "./window";

it("shows what failed and opens the view again", async () => {
  vi.spyOn(console, "error").mockImplementation(() => {});
  const ipc = new FakeIpc();
  await openOn(ipc);
  await screen.findByTestId("pick-starter");
  // A program of another version, say: no fit where the window expects one.
  ipc.models = [{ ...ipc.models[0], fit: null }] as never;
  await press("nav-models");
  const note = await screen.findByTestId("view-error");
  expect(note.textContent).toContain("a mistake in Billion");
  expect(screen.getByTestId("job-tray")).toBeTruthy();
  await press("nav-settings");
  await screen.findByTestId("settings-threads");
});
