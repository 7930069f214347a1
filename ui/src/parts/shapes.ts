// The outlines of the models' markers, about 12 units wide around the origin: in lists, columns and charts alike.
import type { Shape } from "../state/identity.svelte";

export const CIRCLE_RADIUS = 5.6;

export const POLYGONS: Record<Exclude<Shape, "circle">, readonly (readonly [number, number])[]> = {
  square: [[-5, -5], [5, -5], [5, 5], [-5, 5]],
  triangle: [[0, -6.4], [6.2, 4.8], [-6.2, 4.8]],
  diamond: [[0, -6.8], [6.8, 0], [0, 6.8], [-6.8, 0]],
  cross: [[-2, -6], [2, -6], [2, -2], [6, -2], [6, 2], [2, 2], [2, 6], [-2, 6], [-2, 2], [-6, 2], [-6, -2], [-2, -2]],
  wedge: [[0, 6.4], [6.2, -4.8], [-6.2, -4.8]],
  star: [[0, -7], [1.8, -2.4], [6.7, -2.2], [2.9, 0.9], [4.1, 5.7], [0, 3], [-4.1, 5.7], [-2.9, 0.9], [-6.7, -2.2], [-1.8, -2.4]],
  hexagon: [[-3, -5.4], [3, -5.4], [6.2, 0], [3, 5.4], [-3, 5.4], [-6.2, 0]],
};
