// Places the names of dots so that they stay within the box and off each other where there is room.

export interface Anchor {
  x: number;
  y: number;
  text: string;
}

export interface Label {
  x: number;
  y: number;
  anchor: "start" | "end";
}

interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

const LETTER = 6.6;
const HEIGHT = 14;
const GAP = 11;

/** One label for each anchor, in their order: right of the dot if it can be, else left, above or below. */
export function placeLabels(anchors: Anchor[], box: Box): Label[] {
  const taken: Box[] = anchors.map(({ x, y }) => ({ left: x - 7, right: x + 7, top: y - 7, bottom: y + 7 }));
  return anchors.map((anchor) => {
    const width = anchor.text.length * LETTER;
    const tries = [0, -12, 12, -26, 26].flatMap((dy) => [
      { x: anchor.x + GAP, y: anchor.y + 4 + dy, anchor: "start" as const },
      { x: anchor.x - GAP, y: anchor.y + 4 + dy, anchor: "end" as const },
    ]);
    const room = (label: Label): Box => {
      const left = label.anchor === "start" ? label.x : label.x - width;
      return { left, right: left + width, top: label.y - HEIGHT + 3, bottom: label.y + 3 };
    };
    const inside = (b: Box): boolean =>
      b.left >= box.left && b.right <= box.right && b.top >= box.top - HEIGHT && b.bottom <= box.bottom;
    const free = (b: Box): boolean =>
      taken.every((t) => b.right <= t.left || b.left >= t.right || b.bottom <= t.top || b.top >= t.bottom);
    const best =
      tries.find((label) => inside(room(label)) && free(room(label))) ??
      tries.find((label) => inside(room(label))) ??
      { x: Math.min(anchor.x, box.right - width), y: anchor.y - GAP, anchor: "start" as const };
    taken.push(room(best));
    return best;
  });
}
