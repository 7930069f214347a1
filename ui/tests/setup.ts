// What jsdom lacks and the window needs: dialogs, sizes, media queries, scrolling; and a clean page for each test.
import { cleanup, configure } from "@testing-library/svelte";
import { afterEach, beforeEach, vi } from "vitest";

// The machine may be busy building. An element that is not there yet is told in a word: printing the whole page at each
// look, charts and all, takes longer than what is waited for.
configure({ asyncUtilTimeout: 8000, getElementError: (message) => new Error(message ?? "not found") });

// One test builds the page, outside any page.
if (typeof window !== "undefined") {
  HTMLDialogElement.prototype.showModal = function showModal() {
    this.open = true;
  };
  HTMLDialogElement.prototype.close = function close() {
    this.open = false;
  };

  class NoResize implements ResizeObserver {
    observe(): void {}
    unobserve(): void {}
    disconnect(): void {}
  }
  globalThis.ResizeObserver = NoResize;

  window.matchMedia = (query: string) =>
    ({
      media: query,
      matches: false,
      onchange: null,
      addEventListener: () => {},
      removeEventListener: () => {},
      addListener: () => {},
      removeListener: () => {},
      dispatchEvent: () => true,
    }) satisfies MediaQueryList;
}

beforeEach(() => {
  globalThis.localStorage?.clear();
});

afterEach(() => {
  cleanup();
  vi.useRealTimers();
  vi.unstubAllGlobals();
  globalThis.document?.body.replaceChildren();
});
