// The box that follows growing text lets go of a reader who moves up, and takes hold again at the end.
import { describe, expect, it, vi } from "vitest";
import { endFollower } from "../src/parts/followEnd";

/** A scrolling box 100 high whose content has a height that tests set. */
function box(): { node: HTMLElement; grow: (height: number) => void; scrollTo: (top: number) => void } {
  const node = document.createElement("div");
  node.append(document.createElement("div"));
  let height = 100;
  let top = 0;
  let resized: () => void = () => {};
  Object.defineProperties(node, {
    clientHeight: { get: () => 100 },
    scrollHeight: { get: () => height },
    scrollTop: { get: () => top, set: (value: number) => (top = Math.max(0, Math.min(value, height - 100))) },
  });
  vi.stubGlobal(
    "ResizeObserver",
    class {
      constructor(callback: () => void) {
        resized = callback;
      }
      observe(): void {}
      disconnect(): void {}
    },
  );
  return {
    node,
    grow: (to) => {
      height = to;
      resized();
    },
    scrollTo: (to) => {
      node.scrollTop = to;
      node.dispatchEvent(new Event("scroll"));
    },
  };
}

describe("following the end", () => {
  it("keeps growing text at its end", () => {
    const { node, grow } = box();
    endFollower(() => {}).attach(node);
    grow(400);
    expect(node.scrollTop).toBe(300);
    grow(900);
    expect(node.scrollTop).toBe(800);
  });

  it("never moves a reader who went up, however little", () => {
    const { node, grow, scrollTo } = box();
    const told: boolean[] = [];
    endFollower((following) => told.push(following)).attach(node);
    grow(400);
    scrollTo(296);
    grow(900);
    expect(node.scrollTop).toBe(296);
    expect(told).toEqual([false]);
    scrollTo(790);
    grow(1000);
    expect(node.scrollTop).toBe(900);
    expect(told).toEqual([false, true]);
  });

  it("lets go at the first turn of the wheel, before anything has scrolled", () => {
    const { node, grow } = box();
    endFollower(() => {}).attach(node);
    grow(400);
    node.dispatchEvent(new WheelEvent("wheel", { deltaY: -1 }));
    grow(900);
    expect(node.scrollTop).toBe(300);
  });

  it("goes to the end when asked", () => {
    const { node, grow, scrollTo } = box();
    const follower = endFollower(() => {});
    follower.attach(node);
    grow(400);
    scrollTo(0);
    follower.toEnd();
    expect(node.scrollTop).toBe(300);
  });
});
