// Draws a chart with Observable Plot: picks the form, and ties each drawn shape to the spot it shows. Colours are names
// of tokens (`var(--…)`), so that a change of the theme needs no new drawing.
import * as Plot from "@observablehq/plot";
import type { ChartData } from "../ipc";
import { CIRCLE_RADIUS, POLYGONS } from "../parts/shapes";
import type { Identities, Identity } from "../state/identity.svelte";
import { dots } from "./dots";
import { heatMap } from "./heatMap";
import { plane } from "./plane";
import { spots, type Spot } from "./spots";

export interface Look {
  /** Pixels. */
  width: number;
  identities: Identities;
}

/** What a form gives: the options of Plot, and the spots of each group of shapes by the group's class, in its order. */
export interface Drawing {
  options: Plot.PlotOptions;
  shapes: Record<string, Spot[]>;
}

/** Name of the class that Plot's own style rule is about; that rule's hash is in the content security policy. */
export const PLOT_CLASS = "plot";

/** The picture; every shape that shows a spot carries its place in `data-spot`. */
export function draw(data: ChartData, look: Look): SVGSVGElement {
  const all = spots(data);
  const { options, shapes } = data.form === "dots" ? dots(data, all, look) : data.form === "heat_map" ? heatMap(data, all, look) : plane(data, all, look);
  const picture = Plot.plot({ className: PLOT_CLASS, width: look.width, ...options });
  if (!(picture instanceof SVGSVGElement)) throw new Error("Plot made a figure where a picture was asked for");
  for (const [group, shown] of Object.entries(shapes)) {
    const drawn = [...picture.querySelectorAll(`.${group} > *`)];
    shown.forEach((spot, place) => {
      const shape = drawn[place];
      if (!(shape instanceof SVGElement)) return;
      shape.dataset["spot"] = String(spot.at);
      shape.dataset["model"] = spot.model;
      if (!["points", "cells"].includes(group)) return;
      shape.dataset["testid"] = "chart-point";
      shape.dataset["x"] = String(spot.x);
      shape.dataset["y"] = String(spot.y);
      if (spot.value !== null) shape.dataset["value"] = String(spot.value);
    });
  }
  // The box around it is what can be focused; its words are the title, the tip and the table.
  picture.setAttribute("aria-hidden", "true");
  return picture;
}

/** The marker of a model, as everywhere in the window. */
export function symbol({ shape }: Identity): Plot.SymbolImplementation {
  return {
    draw(context: CanvasPath) {
      if (shape === "circle") {
        context.moveTo(CIRCLE_RADIUS, 0);
        context.arc(0, 0, CIRCLE_RADIUS, 0, 2 * Math.PI);
        return;
      }
      POLYGONS[shape].forEach(([x, y], place) => (place === 0 ? context.moveTo(x, y) : context.lineTo(x, y)));
      context.closePath();
    },
  };
}
