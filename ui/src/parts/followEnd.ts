// Keeps a scrolling box at its end while text grows, but never against the reader: any move up lets go, and coming back
// to the end takes hold again.

const NEAR_END = 24;

export interface EndFollower {
  /** For `{@attach}` on the scrolling box, whose first child is its content. */
  attach: (box: HTMLElement) => () => void;
  /** Goes to the end and stays there. */
  toEnd: () => void;
}

/** `onFollow` is told whenever following begins or ends. */
export function endFollower(onFollow: (following: boolean) => void): EndFollower {
  let box: HTMLElement | null = null;
  let following = true;
  let lastTop = 0;
  let lastHeight = 0;

  const set = (next: boolean): void => {
    if (next === following) return;
    following = next;
    onFollow(next);
  };
  const toEnd = (): void => {
    if (box === null) return;
    box.scrollTop = box.scrollHeight;
    lastTop = box.scrollTop;
  };
  const onScroll = (): void => {
    if (box === null) return;
    const shrunk = box.scrollHeight < lastHeight;
    const distance = box.scrollHeight - box.scrollTop - box.clientHeight;
    if (box.scrollTop < lastTop - 1 && !shrunk) set(false);
    else if (distance < NEAR_END) set(true);
    lastTop = box.scrollTop;
    lastHeight = box.scrollHeight;
  };
  const onWheel = (event: WheelEvent): void => {
    if (event.deltaY < 0 && box !== null && box.scrollHeight > box.clientHeight) set(false);
  };

  return {
    attach: (node) => {
      box = node;
      const grown = new ResizeObserver(() => {
        if (following) toEnd();
        lastHeight = node.scrollHeight;
      });
      if (node.firstElementChild !== null) grown.observe(node.firstElementChild);
      grown.observe(node);
      node.addEventListener("scroll", onScroll, { passive: true });
      node.addEventListener("wheel", onWheel, { passive: true });
      toEnd();
      return () => {
        grown.disconnect();
        node.removeEventListener("scroll", onScroll);
        node.removeEventListener("wheel", onWheel);
        box = null;
      };
    },
    toEnd: () => {
      set(true);
      toEnd();
    },
  };
}
